"""Keep rotary frequencies in float32 when a model is converted to half precision.

In bfloat16 a frequency is off by up to 0.2 %: an angle at position 1000 by up to two radians. transformers' own loading
leaves these buffers alone; ``module.to(dtype)``, and so Lightning's ``-true`` precisions, do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

_NAMES = ("inv_freq", "original_inv_freq")
"""What transformers calls them."""


@contextmanager
def kept_rotary(model: nn.Module) -> Iterator[None]:
    """Convert or move ``model`` inside; its rotary frequencies are moved alone."""
    kept = list(_frequencies(model))
    yield
    for owner, name, values in kept:
        converted = getattr(owner, name)
        if converted.dtype != values.dtype:
            setattr(owner, name, values.to(converted.device))


def _frequencies(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name in _NAMES:
                yield module, name, buffer
