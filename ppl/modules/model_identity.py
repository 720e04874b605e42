"""A digest of all that decides what a model makes of a sample."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from ppl.modules.video_llm import VideoLLM

_PLAIN = (bool, int, float, str, type(None))


def model_identity(model: VideoLLM, precision: str) -> str:
    """Digest a model's weights, how it pools, and the precision it computes in.

    Adapters that change nothing yet do not count, so that a model is the same with them and without.

    Args:
        model: Every process that holds a shard of its weights must ask.
        precision: The trainer's.
    """
    digest = hashlib.sha256(precision.encode())
    for part in (model.pooler, model.aligner, model.positions):
        for name, module in [] if part is None else part.named_modules():
            digest.update(repr((name, type(module).__qualname__, _settings(module))).encode())
    digest.update(repr((model.pool_site, model.backbone.spec)).encode())
    state = model.state_dict()
    idle = not any(bool(tensor.any()) for name, tensor in state.items() if ".lora_B." in name)
    for name, tensor in state.items():
        if idle and ".lora_" in name:
            continue
        digest.update(f"{name.replace('.base_layer', '')}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        whole: Any = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.detach()
        digest.update(whole.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _settings(module: nn.Module) -> list[tuple[str, Any]]:
    """Public attributes that are numbers, words or rows of them: what a recipe sets."""
    found = {name: value for name, value in vars(module).items() if not name.startswith("_") and name != "training"}
    return sorted((name, value) for name, value in found.items() if _is_plain(value))


def _is_plain(value: object) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, tuple | list) and all(map(_is_plain, value)))
