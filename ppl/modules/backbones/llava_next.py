"""LLaVA-NeXT: CLIP ViT-L/336, two-layer projector, Vicuna or Mistral; images are tiled ("anyres")."""

from __future__ import annotations

from typing import Any, Literal

import torch
from transformers import AutoTokenizer, LlavaNextConfig, LlavaNextForConditionalGeneration
from transformers.utils import logging

from ppl.modules.backbones.base import Backbone, BackboneSpec

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class LlavaNextBackbone(Backbone):
    """Transformers' ``LlavaNextForConditionalGeneration`` as a backbone.

    Args:
        source: A hub id such as ``llava-hf/llava-v1.6-vicuna-7b-hf`` or a folder in the hub's layout.
        initialize: ``pretrained`` reads the weights of ``source``; ``random`` only its config and tokenizer.
        dtype: Precision of the weights.
        tile_images: Cut a sample's only image into tiles as LLaVA-NeXT was trained; false squashes it to one view.
    """

    def __init__(
        self,
        source: str,
        initialize: Literal["pretrained", "random"] = "pretrained",
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        *,
        tile_images: bool = True,
    ) -> None:
        kind = getattr(torch, dtype)
        if initialize == "random":
            hf = LlavaNextForConditionalGeneration(LlavaNextConfig.from_pretrained(source)).to(kind)
        else:
            hf = _load_strictly(source, kind)
        pinpoints = (hf.config.image_grid_pinpoints or ()) if tile_images else ()
        spec = BackboneSpec(
            image_token="<image>",
            has_cls=hf.config.vision_feature_select_strategy == "default",
            image_mean=CLIP_MEAN,
            image_std=CLIP_STD,
            image_grid_pinpoints=tuple((height, width) for height, width in pinpoints),
        )
        super().__init__(hf, AutoTokenizer.from_pretrained(source), spec)


def _load_strictly(source: str, dtype: torch.dtype) -> LlavaNextForConditionalGeneration:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        loaded: Any = LlavaNextForConditionalGeneration.from_pretrained(
            source,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # otherwise it raises before saying which; they are an error below
        )
    finally:
        logging.set_verbosity(verbosity)
    hf, report = loaded
    problems = {key: sorted(map(str, report[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(problems.values()):
        lines = "\n".join(f"  {key.replace('_', ' ')}: {', '.join(keys)}" for key, keys in problems.items() if keys)
        msg = f"the weights of {source} do not match LlavaNextForConditionalGeneration:\n{lines}"
        raise ValueError(msg)
    return hf.train()  # like any new module; Lightning keeps modes, and transformers hands it over in evaluation mode
