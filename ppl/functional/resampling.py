"""Resample a grid of tokens to another size without reading the prompt: adaptive averages, bilinear resizing.

Axes: *b batch | t h w frames, rows, columns | T H W the same, resampled | c channels | i tokens, o windows of one axis.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ppl.functional.pooling import average_pool3d
from ppl.functional.windows import Size3


def adaptive_average_pool3d(features: Float[Tensor, "*b t h w c"], output_size: Size3) -> Float[Tensor, "*b T H W c"]:
    """Average windows that cover the grid evenly, as many as wanted (PLLaVA, arXiv 2404.16994; ``AdaptiveAvgPool3d``).

    Along an axis of n tokens and m windows, window j spans tokens ``floor(j n / m)`` to ``ceil((j + 1) n / m) - 1``:
    neighbours share a token where m does not divide n, and tokens repeat where m > n. The average is separable, so
    each axis is one small matrix; windows that tile the grid need none.

    Args:
        features: Visual tokens.
        output_size: Windows along each axis, whatever the grid's size.

    Returns:
        One token per window, summed in fp32 at least, also under autocast (on a GPU the process may allow matrices
        TF32), and rounded to the features' dtype.

    Raises:
        ValueError: If an axis is to have less than one window.
    """
    if min(output_size) < 1:
        raise ValueError(f"output_size={output_size} has an axis smaller than 1: use integers >= 1 for (t, h, w)")
    t, h, w = features.shape[-4:-1]
    if t % output_size[0] == h % output_size[1] == w % output_size[2] == 0:
        kernel_size = (t // output_size[0], h // output_size[1], w // output_size[2])
        return average_pool3d(features, kernel_size=kernel_size, stride=kernel_size)
    dtype = torch.promote_types(features.dtype, torch.float32)
    over_t, over_h, over_w = (
        averaging_matrix(extent, windows, dtype=dtype, device=features.device)
        for extent, windows in zip((t, h, w), output_size, strict=True)
    )
    with torch.autocast(features.device.type, enabled=False):
        columns = over_w @ features.to(dtype)
        rows = (over_h @ columns.flatten(-2)).unflatten(-1, columns.shape[-2:])
        frames = (over_t @ rows.flatten(-3)).unflatten(-1, rows.shape[-3:])
    return frames.to(features.dtype)


def averaging_matrix(
    extent: int, windows: int, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Float[Tensor, "o i"]:
    """Weights with which `adaptive_average_pool3d` averages one axis of ``extent`` tokens; each row sums to 1."""
    window = torch.arange(windows, device=device)[:, None]
    token = torch.arange(extent, device=device)
    first, end = window * extent // windows, -(-(window + 1) * extent // windows)
    return ((token >= first) & (token < end)).to(dtype) / (end - first)


def bilinear_size(size: Size3, stride: int) -> Size3:
    """(t, h, w) that `bilinear_resize` leaves of a grid of ``size``: rows and columns over ``stride``, rounded up.

    Raises:
        ValueError: If the stride is less than 1.
    """
    if stride < 1:
        raise ValueError(f"stride={stride} is smaller than 1: use 1 to keep the size, 2 to halve rows and columns")
    return size[0], -(-size[1] // stride), -(-size[2] // stride)


def bilinear_resize(features: Float[Tensor, "*b t h w c"], stride: int) -> Float[Tensor, "*b t H W c"]:
    """Resize each frame bilinearly to 1 / ``stride`` of its rows and columns, rounded up.

    LLaVA-NeXT's ``mm_spatial_pool_mode: bilinear`` and transformers' ``apply_pooling`` of LLaVA-OneVision: corners are
    not aligned, and nothing is smoothed before, so at strides over 2 some tokens are not read.

    Args:
        features: Visual tokens.
        stride: Rows (and columns) that become one; 1 leaves everything as it is.

    Returns:
        Interpolated in fp32 at least, rounded to the features' dtype.

    Raises:
        ValueError: If the stride is less than 1.
    """
    t, h, w = features.shape[-4:-1]
    _, height, width = bilinear_size((t, h, w), stride)
    if stride == 1:
        return features
    frames = features.flatten(0, -4).to(torch.promote_types(features.dtype, torch.float32))
    # Channels stay last in memory: a copy to channels first gives the same bits, 20 times slower on a CPU.
    resized = F.interpolate(frames.permute(0, 3, 1, 2), size=(height, width), mode="bilinear")
    return resized.permute(0, 2, 3, 1).to(features.dtype).unflatten(0, features.shape[:-3])
