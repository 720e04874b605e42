"""Video-LLaVA: a CLIP ViT-L/224 for images and another for videos (LanguageBind), one projector, Vicuna."""

from __future__ import annotations

from typing import Literal

from transformers import VideoLlavaForConditionalGeneration

from ppl.batches import MediaKind, PixelFormat
from ppl.modules.backbones.base import Backbone
from ppl.modules.backbones.loading import Attention, Initialize, Precision, load
from ppl.modules.backbones.spec import CLIP_MEAN, CLIP_STD, BackboneSpec


class VideoLlavaBackbone(Backbone):
    """Transformers' ``VideoLlavaForConditionalGeneration`` as a backbone; it was trained on 8 frames.

    Its own layout of videos keeps each frame's class token and pools nothing: ``video_class_token: keep`` with the
    pooler none. Transformers' port lacks the temporal attention of the original's video tower, so its frames do not see
    each other before the language model.

    Args:
        source: A hub id such as ``LanguageBind/Video-LLaVA-7B-hf`` or a folder in the hub's layout.
        initialize: ``pretrained`` reads the weights of ``source``; ``random`` only its config and tokenizer.
        dtype: Precision of the weights.
        attention: Attention implementation; null lets transformers choose.
        revision: Branch, tag or commit of a hub id.
        frames_per_forward: Frames the vision tower encodes at a time, which bounds its memory; null: all at once.
        video_class_token: ``drop`` leaves a frame's grid of patches, to be pooled; ``keep`` puts its class token before
            them, as the model was trained.
    """

    def __init__(
        self,
        source: str,
        initialize: Initialize = "pretrained",
        dtype: Precision = "float32",
        attention: Attention | None = None,
        revision: str = "main",
        frames_per_forward: int | None = None,
        video_class_token: Literal["drop", "keep"] = "drop",
    ) -> None:
        hf, tokenizer, image_token = load(
            VideoLlavaForConditionalGeneration, source, initialize, dtype, attention, revision
        )
        images: tuple[MediaKind, ...] = ("image", "multi_image")
        all_tokens = images if hf.config.vision_feature_select_strategy == "full" else ()
        spec = BackboneSpec(
            image_token=image_token,
            has_cls=True,
            image_mean=CLIP_MEAN,
            image_std=CLIP_STD,
            pixels=PixelFormat(video="crop", image="crop", multi_image="crop"),
            image_layout="none",
            image_tower="image_tower",
            video_tower="video_tower",
            cls_kept=("video", *all_tokens) if video_class_token == "keep" else all_tokens,
        )
        super().__init__(hf, tokenizer, spec, frames_per_forward)
