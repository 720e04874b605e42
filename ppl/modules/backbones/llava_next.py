"""LLaVA-NeXT: CLIP ViT-L/336, two-layer projector, Vicuna or Mistral; images are tiled ("anyres")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import LlavaNextForConditionalGeneration

from ppl.batches import MediaKind, PixelFormat
from ppl.modules.backbones.base import Backbone
from ppl.modules.backbones.bt_adapter import BTAdapter
from ppl.modules.backbones.loading import Attention, Initialize, Precision, load
from ppl.modules.backbones.quantization import Quantization
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
        quantization: Hold the language model's linear layers in 8 or 4 bits, through bitsandbytes; null: in ``dtype``.
        bt_adapter_depth: Layers of a BT-Adapter beside the vision tower, in which the frames of a video see each other;
            the released PPLLaVA weights have one of 4. It starts as `BTAdapter` says, whatever ``initialize``, and must
            train before it is of use. Null: none.
        bt_adapter_frames: Most frames of a video that it has learned times for.
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
        quantization: Quantization | None = None,
        context_length: int | None = None,
        bt_adapter_depth: int | None = None,
        bt_adapter_frames: int = 64,
        *,
        tile_images: bool = True,
        tile_each_image: bool = False,
    ) -> None:
        hf, tokenizer, image_token = load(
            LlavaNextForConditionalGeneration,
            source,
            initialize,
            dtype,
            attention,
            revision,
            context_length,
            quantization=quantization,
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
            mixed_kinds=() if bt_adapter_depth is None else ("video",),
        )
        super().__init__(hf, tokenizer, spec, frames_per_forward)
        self.bt_adapter = None if bt_adapter_depth is None else _bt_adapter(hf, bt_adapter_depth, bt_adapter_frames)

    @property
    def vision_tower(self) -> nn.Module:
        """Encodes frames to patches; the BT-Adapter is part of it."""
        tower = super().vision_tower
        return tower if self.bt_adapter is None else nn.ModuleDict({"tower": tower, "bt_adapter": self.bt_adapter})

    def parts(self) -> Iterator[tuple[str, list[nn.Parameter]]]:
        """As of any backbone; the BT-Adapter is a part of its own, which may train beside a frozen tower."""
        adapter = {} if self.bt_adapter is None else dict.fromkeys(self.bt_adapter.parameters())
        for name, parameters in super().parts():
            yield name, [parameter for parameter in parameters if parameter not in adapter]
        if adapter:
            yield "bt_adapter", list(adapter)

    def _hidden_states(
        self, tower: nn.Module, pixels: Float[Tensor, "t 3 H W"], kind: MediaKind, layers: Sequence[int]
    ) -> list[Float[Tensor, "t s c"]]:
        """A BT-Adapter sees a video as one clip, each image and each tile as a clip of one frame."""
        if self.bt_adapter is None:
            return super()._hidden_states(tower, pixels, kind, layers)
        run, depth = super()._hidden_states, self.bt_adapter.depth
        chunks = pixels.split(self.frames_per_forward or len(pixels))  # the tower itself may take a few at a time
        last = zip(*(run(tower, chunk, kind, range(-depth, 0)) for chunk in chunks), strict=True)
        positions = self.hf.model.vision_tower.embeddings.position_embedding.weight
        num_frames = len(pixels) if kind == "video" else 1
        states = self.bt_adapter([torch.cat(parts) for parts in last], positions, num_frames)
        return [states[layer] for layer in layers]


def _bt_adapter(hf: Any, depth: int, max_frames: int) -> BTAdapter:  # noqa: ANN401  as `Backbone.hf`
    layer = hf.config.vision_feature_layer
    adapter = BTAdapter(hf.model.vision_tower, depth, max_frames)
    if not isinstance(layer, int) or not -depth <= layer < 0:
        msg = (
            f"got a BT-Adapter of {depth} layers for vision_feature_layer={layer}, expected -{depth} to -1: "
            "earlier layers have nothing of it"
        )
        raise ValueError(msg)
    return adapter
