"""Pool one clip over windows of several sizes, reading it once where that gives the same (PPLLaVA, Table 5).

Axes: *b batch | t h w frames, rows, columns | c channels | n pooled tokens of all windows together.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
from jaxtyping import Float
from torch import Tensor

from ppl.functional.density import density_pool3d, relevance_density
from ppl.functional.pooling import Normalization, average_pool3d, weighted_pool3d
from ppl.functional.windows import Edges, Size3, output_size


def multi_kernel_pool3d(
    features: Float[Tensor, "*b t h w c"],
    relevance: Float[Tensor, "*b t h w"],
    *,
    windows: Sequence[tuple[Size3, Size3]],
    edges: Edges = "drop",
    normalization: Normalization = "eq3",
) -> Float[Tensor, "*b n c"]:
    """Sum the tokens of windows of several sizes, weighted by relevance, and put the results one after the other.

    Args:
        features: Visual tokens.
        relevance: Logits of the prompt-to-token similarity.
        windows: Kernel size and stride of each pooling, in the order of the results.
        edges: What becomes of tokens that do not fill a last window.
        normalization: How relevance becomes weights; see ``Normalization``.

    Returns:
        What ``weighted_pool3d`` gives for each kernel size and stride, flattened and concatenated.

    Raises:
        ValueError: If some windows do not fit the features.
    """
    t, h, w = features.shape[-4:-1]
    for window in windows:  # before any work, and in terms of the features, not of the base
        output_size((t, h, w), *window, edges)
    if normalization != "eq3":
        pooled = [
            weighted_pool3d(features, relevance, kernel_size=k, stride=s, edges=edges, normalization=normalization)
            for k, s in windows
        ]
        return torch.cat([grid.flatten(-4, -2) for grid in pooled], dim=-2)
    density = relevance_density(relevance)
    base = common_base(windows, edges)
    if base is None:
        pooled = [density_pool3d(features, density, kernel_size=k, stride=s, edges=edges) for k, s in windows]
    else:
        reduced = density_pool3d(features, density, kernel_size=base, stride=base, dtype=density.dtype)
        multiples = [_divided(kernel_size, base) for kernel_size, _ in windows]
        pooled = [average_pool3d(reduced, kernel_size=multiple, stride=multiple) for multiple in multiples]
    return torch.cat([grid.flatten(-4, -2) for grid in pooled], dim=-2).to(features.dtype)


def common_base(windows: Sequence[tuple[Size3, Size3]], edges: Edges) -> Size3 | None:
    """Find the window of which all others are made, if pooling over it first changes nothing and saves work.

    Under ``eq3`` a pooled token is an average of tokens times their density, and an average over a window is the
    average of the averages over its equal parts. Windows that tile are made of whole base windows, and leave out the
    same tokens: ``floor(floor(size / base) / (kernel / base)) = floor(size / kernel)``.

    Reading the clip once for the base, writing that and reading it once per kernel moves ``1 + (kernels + 1) / base``
    times the clip's numbers, instead of once per kernel.

    Args:
        windows: Kernel size and stride of each pooling.
        edges: What becomes of tokens that do not fill a last window; the parts of a padded window are not equal.

    Returns:
        The greatest common divisor of the kernels, axis by axis; None if it is too small to save work, if windows
        overlap or leave gaps, or under ``pad``.
    """
    t, h, w = (gcd(*(kernel_size[axis] for kernel_size, _ in windows)) for axis in range(3))
    tiles = all(kernel_size == stride for kernel_size, stride in windows)
    saves = 1 + (len(windows) + 1) / (t * h * w) < len(windows)
    return (t, h, w) if tiles and saves and edges != "pad" else None


def _divided(kernel_size: Size3, base: Size3) -> Size3:
    t, h, w = (k // b for k, b in zip(kernel_size, base, strict=True))
    return t, h, w
