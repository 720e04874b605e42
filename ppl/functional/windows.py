"""Slide 3-D windows over a grid of tokens, one kernel offset at a time.

Axes: t h w frames, rows, columns | T H W the same after sliding, one per window.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

Size3 = tuple[int, int, int]
"""Frames, rows and columns, always in this order."""


def output_size(size: Size3, kernel_size: Size3, stride: Size3) -> Size3:
    """Count the windows along each axis (PPLLaVA, Eq. 2).

    There is no padding: tokens that do not fill a last window are left out.

    Args:
        size: Tokens along each axis of the grid.
        kernel_size: Tokens along each axis of a window.
        stride: Tokens between the starts of neighbouring windows.

    Returns:
        ``floor((size - kernel_size) / stride) + 1`` per axis.

    Raises:
        ValueError: If a window is larger than the grid, or anything is smaller than 1.
    """
    for name, value in (("size", size), ("kernel_size", kernel_size), ("stride", stride)):
        if min(value) < 1:
            raise ValueError(f"{name}={value} has an axis smaller than 1: use integers >= 1 for (t, h, w)")
    if any(kernel > extent for kernel, extent in zip(kernel_size, size, strict=True)):
        raise ValueError(
            f"kernel_size={kernel_size} does not fit a grid of (t, h, w)={size}: "
            f"use a kernel of at most {size}, or {_remedy(size, kernel_size)}"
        )
    t, h, w = ((i - k) // s + 1 for i, k, s in zip(size, kernel_size, stride, strict=True))
    return t, h, w


def window_slices(size: Size3, kernel_size: Size3, stride: Size3) -> Iterator[tuple[slice, slice, slice]]:
    """Yield, for each offset inside the kernel, the slices that select it in every window at once.

    Element (T, H, W) of a grid indexed by the slices is the token at that offset of window (T, H, W). Summing over
    offsets therefore needs memory for windows, not for their tokens, and overlapping windows cost nothing extra.

    Args:
        size: Tokens along each axis of the grid.
        kernel_size: Tokens along each axis of a window.
        stride: Tokens between the starts of neighbouring windows.

    Yields:
        Slices of frames, rows and columns; offsets in t-major order.

    Raises:
        ValueError: As in ``output_size``, when the first item is asked for.
    """
    extent = [n * s for n, s in zip(output_size(size, kernel_size, stride), stride, strict=True)]
    for offset in product(*map(range, kernel_size)):
        t, h, w = (slice(o, o + e, s) for o, e, s in zip(offset, extent, stride, strict=True))
        yield t, h, w


def _remedy(size: Size3, kernel_size: Size3) -> str:
    """Name what to enlarge so that the kernel fits."""
    frames = kernel_size[0] > size[0]
    image = kernel_size[1] > size[1] or kernel_size[2] > size[2]
    return " and ".join(["more frames"] * frames + ["larger images"] * image)
