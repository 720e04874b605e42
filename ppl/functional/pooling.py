"""Pool video features over 3-D windows, guided by the prompt or not (PPLLaVA, Eq. 3).

Axes: *b batch | t h w frames, rows, columns | T H W the same, pooled | c channels | k tokens of one window.
"""

from __future__ import annotations

from math import prod
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ppl.functional.relevance import relevance_distribution
from ppl.functional.windows import Size3, output_size, window_slices

Normalization = Literal["eq3", "window", "official"]
"""How relevance becomes weights. Uniform relevance gives ``average_pool3d`` under all of them.

``eq3``: a softmax over the whole clip, times tokens of the clip / tokens of a window. A window far from the prompt
fades, a close one grows: Eq. 3's contrast between windows, at the features' scale.
``window``: a softmax of the relevance inside each window; the result is a weighted mean of the window.
``official``: a softmax over the whole clip, then a softmax of those probabilities / ``temperature`` inside each window,
as in the released code. As ``temperature`` shrinks, only a window's most relevant token survives.
"""


def weighted_pool3d(
    features: Float[Tensor, "*b t h w c"],
    relevance: Float[Tensor, "*b t h w"],
    *,
    kernel_size: Size3,
    stride: Size3,
    normalization: Normalization = "eq3",
    temperature: float = 0.01,
) -> Float[Tensor, "*b T H W c"]:
    """Sum each window's tokens, weighted by their relevance to the prompt.

    Args:
        features: Visual tokens.
        relevance: Logits of the prompt-to-token similarity; a constant added to them changes nothing.
        kernel_size: Tokens along each axis of a window.
        stride: Tokens between the starts of neighbouring windows.
        normalization: How relevance becomes weights; see ``Normalization``.
        temperature: Divides the probabilities of ``official``; the other normalizations do not use it.

    Returns:
        One token per window. Weights and sums are fp32 at least; the result is rounded to the features' dtype.

    Raises:
        ValueError: If a window does not fit the features, or the normalization or temperature is not usable.
    """
    if normalization not in get_args(Normalization):
        raise ValueError(f"normalization={normalization!r} is unknown: use one of {get_args(Normalization)}")
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} is not positive: use a number > 0, 0.01 in the released code")
    values = relevance if normalization == "window" else relevance_distribution(relevance)
    weights = _gather_windows(values, kernel_size, stride)
    if normalization == "eq3":
        weights = weights * (relevance.shape[-3:].numel() / prod(kernel_size))
    elif normalization == "official":
        weights = (weights / temperature).softmax(dim=-1)
    else:
        weights = weights.softmax(dim=-1, dtype=torch.promote_types(weights.dtype, torch.float32))
    return _window_sum(features, weights, kernel_size, stride)


def average_pool3d(
    features: Float[Tensor, "*b t h w c"], *, kernel_size: Size3, stride: Size3
) -> Float[Tensor, "*b T H W c"]:
    """Average each window.

    Args:
        features: Visual tokens.
        kernel_size: Tokens along each axis of a window.
        stride: Tokens between the starts of neighbouring windows.

    Returns:
        One token per window, summed in fp32 at least and rounded to the features' dtype.

    Raises:
        ValueError: If a window does not fit the features.
    """
    volume = prod(kernel_size)
    dtype = torch.promote_types(features.dtype, torch.float32)
    weights = features.new_full((1, 1, 1, volume), 1 / volume, dtype=dtype)
    return _window_sum(features, weights, kernel_size, stride)


def _gather_windows(grid: Float[Tensor, "*b t h w"], kernel_size: Size3, stride: Size3) -> Float[Tensor, "*b T H W k"]:
    """Copy the values of each window side by side; for grids without channels, where copies are cheap."""
    t, h, w = grid.shape[-3:]
    slices = window_slices((t, h, w), kernel_size, stride)
    return torch.stack([grid[..., frames, rows, columns] for frames, rows, columns in slices], dim=-1)


def _window_sum(
    features: Float[Tensor, "*b t h w c"], weights: Float[Tensor, "*#b #T #H #W k"], kernel_size: Size3, stride: Size3
) -> Float[Tensor, "*b T H W c"]:
    """Accumulate weight * token over the offsets of the kernel, in the dtype of the weights.

    Only the accumulator is allocated: the windows' tokens are views of the features.
    """
    *batch, t, h, w, c = features.shape
    size = (t, h, w)
    total = weights.new_zeros(*batch, *output_size(size, kernel_size, stride), c)
    for k, (frames, rows, columns) in enumerate(window_slices(size, kernel_size, stride)):
        total = total.addcmul_(features[..., frames, rows, columns, :], weights[..., k, None])
    return total.to(features.dtype)
