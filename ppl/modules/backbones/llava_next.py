"""LLaVA-NeXT: CLIP ViT-L/336, two-layer projector, Vicuna or Mistral; images are tiled ("anyres")."""

from __future__ import annotations

from transformers import LlavaNextForConditionalGeneration

from ppl.batches import PixelFormat
from ppl.modules.backbones.base import Backbone
from ppl.modules.backbones.loading import Attention, Initialize, Precision, load
from ppl.modules.backbones.spec import CLIP_MEAN, CLIP_STD, BackboneSpec


class LlavaNextBackbone(Backbone):
    """Transformers' ``LlavaNextForConditionalGeneration`` as a backbone.

    Videos are squashed and get no newlines, as in PPLLaVA; transformers has no path for them here.

    Args:
        source: A hub id such as ``llava-hf/llava-v1.6-vicuna-7b-hf`` or a folder in the hub's layout.
        initialize: ``pretrained`` reads the weights of ``source``; ``random`` only its config and tokenizer.
        dtype: Precision of the weights.
        attention: Attention implementation; null lets transformers choose.
        revision: Branch, tag or commit of a hub id.
        frames_per_forward: Frames the vision tower encodes at a time, which bounds its memory; null: all at once.
        context_length: Positions of the language model; more than its config has (4096 for Vicuna) are reached by
            linear scaling of its rotary angles. Null: as configured.
        tile_images: Cut a sample's only image into tiles as LLaVA-NeXT was trained; false squashes it to one view.
        tile_each_image: Tile each of several images too, as transformers does; false gives each one squashed view
            without newline, as PPLLaVA does.
    """

    def __init__(
        self,
        source: str,
        initialize: Initialize = "pretrained",
        dtype: Precision = "float32",
        attention: Attention | None = None,
        revision: str = "main",
        frames_per_forward: int | None = None,
        context_length: int | None = None,
        *,
        tile_images: bool = True,
        tile_each_image: bool = False,
    ) -> None:
        hf, tokenizer, image_token = load(
            LlavaNextForConditionalGeneration, source, initialize, dtype, attention, revision, context_length
        )
        pinpoints = (hf.config.image_grid_pinpoints or ()) if tile_images else ()
        spec = BackboneSpec(
            image_token=image_token,
            has_cls=hf.config.vision_feature_select_strategy == "default",
            image_mean=CLIP_MEAN,
            image_std=CLIP_STD,
            image_grid_pinpoints=tuple((height, width) for height, width in pinpoints),
            pixels=PixelFormat(tiled_kinds=("image", "multi_image") if tile_each_image else ("image",)),
            multi_image_layout="packed" if tile_each_image else "none",
        )
        super().__init__(hf, tokenizer, spec, frames_per_forward)
