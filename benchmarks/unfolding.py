"""Weighted pooling written straightforwardly, with Eq. 3's weights: what `ppl.functional.pooling` is measured against.

`unfold` is the formulation of the released PPLLaVA code: features channels first (there, as here, a permuted view of
what the tower returns), Tensor.unfold along the three axes, times the unfolded weights, summed over the window. That
code also copies the unfolded features before it multiplies, which only slows it down: left out. `unfold_last` leaves
channels last, where they lie in memory: the quickest eager form known to us.

Axes: t h w frames, rows, columns | T H W the same, pooled | c channels | n tokens.
"""

from __future__ import annotations

from torch import Tensor

KERNEL = (2, 3, 3)


def unfold(grid: Tensor, relevance: Tensor) -> Tensor:
    """Channels first: (t, h, w, c) -> (c, T, H, W, 2, 3, 3) -> (n, c)."""
    windows, weights = grid.permute(3, 0, 1, 2), eq3_weights(relevance).to(grid.dtype)
    for axis, k in enumerate(KERNEL):
        windows, weights = windows.unfold(axis + 1, k, k), weights.unfold(axis, k, k)
    return (windows * weights).sum(dim=(-3, -2, -1)).flatten(1).T


def unfold_last(grid: Tensor, relevance: Tensor) -> Tensor:
    """Channels last: (t, h, w, c) -> (T, H, W, c, 2, 3, 3) -> (n, c)."""
    windows, weights = grid, eq3_weights(relevance).to(grid.dtype)
    for axis, k in enumerate(KERNEL):
        windows, weights = windows.unfold(axis, k, k), weights.unfold(axis, k, k)
    return (windows * weights[:, :, :, None]).sum(dim=(-3, -2, -1)).flatten(0, 2)


def eq3_weights(relevance: Tensor) -> Tensor:
    """Softmax over the clip, times tokens of the clip / tokens of a window."""
    scale = relevance.numel() / (KERNEL[0] * KERNEL[1] * KERNEL[2])
    return scale * relevance.flatten().softmax(dim=0).view_as(relevance)
