"""Linear layers of the language model in 8 or 4 bits, through bitsandbytes; towers, projector and head stay whole."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

import torch
from transformers import BitsAndBytesConfig

from ppl.extras import missing

Quantization = Literal["8bit", "4bit"]

WHOLE = (
    "model.vision_tower",
    "model.image_tower",
    "model.video_tower",
    "model.vision_resampler",
    "model.multi_modal_projector",
    "lm_head",
)
"""Modules that keep the recipe's precision: full names, since transformers compares them from the start of a name."""


def quantization_config(
    quantization: Quantization, initialize: Literal["pretrained", "random"], dtype: torch.dtype
) -> BitsAndBytesConfig:
    """Say to transformers what is quantised, and how.

    ``8bit`` is LLM.int8() (Dettmers et al. 2022, arXiv:2208.07339), ``4bit`` is QLoRA's normal float with doubly
    quantised constants (Dettmers et al. 2023, arXiv:2305.14314), computing in ``dtype``.

    Raises:
        ValueError: There are no weights to quantise.
        MissingExtraError: bitsandbytes, or accelerate which it needs, is not installed.
    """
    if initialize != "pretrained":
        msg = (
            f"got quantization={quantization!r} with initialize={initialize!r}, expected pretrained: "
            "weights are quantised as they are read; set initialize: pretrained or quantization: null"
        )
        raise ValueError(msg)
    lacking = [name for name in ("bitsandbytes", "accelerate") if find_spec(name) is None]
    if lacking:
        wanted = f"quantization={quantization!r}"
        raise missing("quantization", " and ".join(lacking), wanted, ", or set quantization: null")
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(WHOLE))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(WHOLE),
    )
