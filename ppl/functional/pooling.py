"""Pool video features over 3-D windows, guided by the prompt or not (PPLLaVA, Eq. 3).

Axes: *b batch | t h w frames, rows, columns | T H W the same, pooled | c channels | k tokens of one window.
"""

from __future__ import annotations

from math import prod
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ppl.functional.density import density_weights, relevance_density
from ppl.functional.relevance import relevance_distribution
from ppl.functional.window_sums import gather_windows, window_sum, window_volumes
from ppl.functional.windows import Edges, Size3

Normalization = Literal["eq3", "window", "official"]
"""How relevance becomes weights. Uniform relevance gives ``average_pool3d`` under all of them.

``eq3``: a softmax over the whole clip, times tokens of the clip / tokens of the window. A window far from the prompt
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
    edges: Edges = "drop",
    normalization: Normalization = "eq3",
    temperature: float = 0.01,
) -> Float[Tensor, "*b T H W c"]:
    """Sum each window's tokens, weighted by their relevance to the prompt.

    Args:
        features: Visual tokens.
        relevance: Logits of the prompt-to-token similarity; a constant added to them changes nothing.
        kernel_size: Tokens along each axis of a window.
        stride: Tokens between the starts of neighbouring windows.
        edges: What becomes of tokens that do not fill a last window.
        normalization: How relevance becomes weights; see ``Normalization``.
        temperature: Divides the probabilities of ``official``; the other normalizations do not use it.

    Returns:
        One token per window. Weights and sums are fp32 at least; the result is rounded to the features' dtype.

    Raises:
        ValueError: If windows do not fit the features, or the normalization or temperature is not usable.
    """
    weights = window_weights(
        relevance,
        kernel_size=kernel_size,
        stride=stride,
        edges=edges,
        normalization=normalization,
        temperature=temperature,
    )
    return window_sum(features, weights, kernel_size=kernel_size, stride=stride, edges=edges)


def window_weights(
    relevance: Float[Tensor, "*b t h w"],
    *,
    kernel_size: Size3,
    stride: Size3,
    edges: Edges = "drop",
    normalization: Normalization = "eq3",
    temperature: float = 0.01,
) -> Float[Tensor, "*b T H W k"]:
    """Turn relevance into the weights of each window's tokens; arguments as for `weighted_pool3d`.

    Returns:
        In fp32 at least; 0 for what a padded window lacks.

    Raises:
        ValueError: If windows do not fit, or the normalization or temperature is not usable.
    """
    if normalization not in get_args(Normalization):
        raise ValueError(f"normalization={normalization!r} is unknown: use one of {get_args(Normalization)}")
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} is not positive: use a number > 0, 0.01 in the released code")
    if normalization == "eq3":
        return density_weights(relevance_density(relevance), kernel_size=kernel_size, stride=stride, edges=edges)
    logits = relevance if normalization == "window" else relevance_distribution(relevance) / temperature
    logits = gather_windows(logits, kernel_size=kernel_size, stride=stride, edges=edges, fill=float("-inf"))
    return logits.softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def average_pool3d(
    features: Float[Tensor, "*b t h w c"], *, kernel_size: Size3, stride: Size3, edges: Edges = "drop"
) -> Float[Tensor, "*b T H W c"]:
    """Average each window.

    Args:
        features: Visual tokens.
        kernel_size: Tokens along each axis of a window.
        stride: Tokens between the starts of neighbouring windows.
        edges: What becomes of tokens that do not fill a last window; a padded window averages those it has.

    Returns:
        One token per window, summed in fp32 at least and rounded to the features' dtype.

    Raises:
        ValueError: If windows do not fit the features.
    """
    t, h, w = features.shape[-4:-1]
    volumes = window_volumes((t, h, w), kernel_size=kernel_size, stride=stride, edges=edges, device=features.device)
    weights = 1 / volumes.to(torch.promote_types(features.dtype, torch.float32))
    weights = weights[..., None].expand(*weights.shape, prod(kernel_size))
    return window_sum(features, weights, kernel_size=kernel_size, stride=stride, edges=edges)
