"""Slide 3-D windows over a grid of tokens, one kernel offset at a time.

Axes: t h w frames, rows, columns | T H W the same after sliding, one per window.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Literal, NamedTuple, get_args

Size3 = tuple[int, int, int]
"""Frames, rows and columns, always in this order."""

Slices3 = tuple[slice, slice, slice]

Edges = Literal["drop", "pad", "error"]
"""What becomes of tokens that do not fill a last window.

``drop``: they are left out, as in a convolution without padding (PPLLaVA, Eq. 2).
``pad``: the last window is a smaller one; only the tokens it has count.
``error``: a grid that windows do not tile is refused.
"""


class Offset(NamedTuple):
    """One offset inside the kernel: the tokens found there, and the windows they belong to."""

    place: int
    """Where in the kernel, counted in t-major order."""
    tokens: Slices3
    windows: Slices3


def output_size(size: Size3, kernel_size: Size3, stride: Size3, edges: Edges = "drop") -> Size3:
    """Count the windows along each axis (PPLLaVA, Eq. 2).

    Args:
        size: Tokens along each axis of the grid.
        kernel_size: Tokens along each axis of a window.
        stride: Tokens between the starts of neighbouring windows.
        edges: What becomes of tokens that do not fill a last window.

    Returns:
        Per axis ``floor((size - kernel_size) / stride) + 1``; under ``pad`` one more where tokens are left, as long as
        that window starts inside the grid.

    Raises:
        ValueError: If a window is larger than the grid (allowed under ``pad``), if it leaves tokens under ``error``, or
            if anything is smaller than 1.
    """
    if edges not in get_args(Edges):
        raise ValueError(f"edges={edges!r} is unknown: use one of {get_args(Edges)}")
    for name, value in (("size", size), ("kernel_size", kernel_size), ("stride", stride)):
        if min(value) < 1:
            raise ValueError(f"{name}={value} has an axis smaller than 1: use integers >= 1 for (t, h, w)")
    axes = list(zip(size, kernel_size, stride, strict=True))
    if edges == "pad":
        t, h, w = (min(max(0, -(-(i - k) // s)) + 1, -(-i // s)) for i, k, s in axes)
        return t, h, w
    if any(k > i for i, k, _ in axes):
        raise ValueError(
            f"kernel_size={kernel_size} does not fit a grid of (t, h, w)={size}: "
            f"use a kernel of at most {size}, or {_remedy(size, kernel_size)}, or edges: pad"
        )
    left = tuple((i - k) % s for i, k, s in axes)
    if edges == "error" and any(left):
        raise ValueError(
            f"kernel_size={kernel_size} at stride={stride} leaves {left} (t, h, w) of a grid of {size} over: "
            "use a kernel and stride that tile it, or edges: drop | pad"
        )
    t, h, w = ((i - k) // s + 1 for i, k, s in axes)
    return t, h, w


def window_offsets(size: Size3, kernel_size: Size3, stride: Size3, edges: Edges = "drop") -> Iterator[Offset]:
    """Yield, for each offset inside the kernel, the slices that select it in every window at once.

    ``grid[tokens]`` holds the tokens at that offset and ``pooled[windows]`` the windows they belong to, of one shape.
    Summing over offsets therefore needs memory for windows, not for their tokens, and overlapping windows cost nothing
    extra. Under ``pad`` the last windows lack some offsets.

    Args:
        size: Tokens along each axis of the grid.
        kernel_size: Tokens along each axis of a window.
        stride: Tokens between the starts of neighbouring windows.
        edges: What becomes of tokens that do not fill a last window.

    Yields:
        Slices of frames, rows and columns; offsets in t-major order.

    Raises:
        ValueError: As in ``output_size``, when the first item is asked for.
    """
    counts = output_size(size, kernel_size, stride, edges)
    for place, offset in enumerate(product(*map(range, kernel_size))):
        if any(o >= i for o, i in zip(offset, size, strict=True)):
            continue
        tokens, windows = [], []
        for o, i, n, s in zip(offset, size, counts, stride, strict=True):
            present = min(n, -(-(i - o) // s))
            tokens.append(slice(o, o + present * s, s))
            windows.append(slice(0, present))
        yield Offset(place, (tokens[0], tokens[1], tokens[2]), (windows[0], windows[1], windows[2]))


def _remedy(size: Size3, kernel_size: Size3) -> str:
    """Name what to enlarge so that the kernel fits."""
    frames = kernel_size[0] > size[0]
    image = kernel_size[1] > size[1] or kernel_size[2] > size[2]
    return " and ".join(["more frames"] * frames + ["larger images"] * image)
