"""Relevance as a density: how many times an average token of its clip each token weighs.

PPLLaVA's Eq. 3 is average pooling of tokens times their density. Told apart, a density can be computed once over a clip
and used for several poolings, or for a part of the clip.

Axes: *b batch | t h w frames, rows, columns | T H W the same, pooled | c channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ppl.functional.relevance import relevance_distribution
from ppl.functional.window_sums import gather_windows, window_sum, window_volumes
from ppl.functional.windows import Edges, Size3


def relevance_density(relevance: Float[Tensor, "*b t h w"]) -> Float[Tensor, "*b t h w"]:
    """Turn relevance into tokens times probability (PPLLaVA, Eq. 1, rescaled).

    Args:
        relevance: Logits; a constant added to them changes nothing.

    Returns:
        Densities of mean 1 over t, h and w together, 1 everywhere if relevance is uniform; fp32 at least.
    """
    t, h, w = relevance.shape[-3:]
    return relevance_distribution(relevance) * (t * h * w)


def density_pool3d(
    features: Float[Tensor, "*b t h w c"],
    density: Float[Tensor, "*b t h w"],
    *,
    kernel_size: Size3,
    stride: Size3,
    edges: Edges = "drop",
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "*b T H W c"]:
    """Average each window's tokens times their density (PPLLaVA, Eq. 3).

    With the density of these very features this is ``weighted_pool3d`` under ``eq3``. Features and density may also be
    the same part of a longer clip: its tokens then weigh what they weigh in the clip.

    Args:
        features: Visual tokens.
        density: Factor of each token; see ``relevance_density``.
        kernel_size: Tokens along each axis of a window.
        stride: Tokens between the starts of neighbouring windows.
        edges: What becomes of tokens that do not fill a last window; a padded window averages those it has.
        dtype: Of the result; None: the features'.

    Returns:
        One token per window, summed in the density's dtype and rounded once.

    Raises:
        ValueError: If windows do not fit the features.
    """
    weights = density_weights(density, kernel_size=kernel_size, stride=stride, edges=edges)
    return window_sum(features, weights, kernel_size=kernel_size, stride=stride, edges=edges, dtype=dtype)


def density_weights(
    density: Float[Tensor, "*b t h w"],
    *,
    kernel_size: Size3,
    stride: Size3,
    edges: Edges = "drop",
    counted: Float[Tensor, "*b t h w"] | None = None,
) -> Float[Tensor, "*b T H W k"]:
    """Divide the density of each window's tokens by their number: the weights of Eq. 3.

    Args:
        density: Factor of each token; see ``relevance_density``.
        kernel_size: Tokens along each axis of a window.
        stride: Tokens between the starts of neighbouring windows.
        edges: What becomes of tokens that do not fill a last window.
        counted: 1 for tokens that count, 0 for those that have no weight and no number; None: all count. A window of
            which none counts gives each token it has the same weight, whatever the density: their plain mean.

    Returns:
        In fp32 at least; 0 for what a padded window lacks.

    Raises:
        ValueError: If windows do not fit the grid.
    """
    t, h, w = density.shape[-3:]
    weights = gather_windows(density, kernel_size=kernel_size, stride=stride, edges=edges)
    volumes = window_volumes((t, h, w), kernel_size=kernel_size, stride=stride, edges=edges, device=density.device)
    volumes = volumes.to(torch.promote_types(density.dtype, torch.float32))[..., None]
    if counted is None:
        return weights / volumes
    counts = gather_windows(counted, kernel_size=kernel_size, stride=stride, edges=edges)
    present = gather_windows(torch.ones_like(counted), kernel_size=kernel_size, stride=stride, edges=edges)
    number = counts.sum(dim=-1, keepdim=True)
    return torch.where(number > 0, weights * counts / number.clamp_min(1), present / volumes)
