"""Max pooling over 3-D windows, guided by the prompt (PPLLaVA, "Pooling Approach", Table 5).

The paper says only that it is max pooling "using weights derived from the prompt as guidance"; both readings are here.

Axes: *b batch | t h w frames, rows, columns | T H W the same, pooled | c channels.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ppl.functional.straight_through import straight_through
from ppl.functional.window_sums import gather_windows
from ppl.functional.windows import Edges, Size3, output_size, window_offsets


def select_pool3d(
    features: Float[Tensor, "*b t h w c"],
    relevance: Float[Tensor, "*b t h w"],
    *,
    kernel_size: Size3,
    stride: Size3,
    edges: Edges = "drop",
) -> Float[Tensor, "*b T H W c"]:
    """Keep the most relevant token of each window as it is; of equals the first, in t-major order.

    Relevance gets a straight-through gradient, as if each token were multiplied by its probability in the softmax of
    its window's relevance.

    Args:
        features: Visual tokens.
        relevance: Logits of the prompt-to-token similarity.
        kernel_size: Tokens along each axis of a window.
        stride: Tokens between the starts of neighbouring windows.
        edges: What becomes of tokens that do not fill a last window; a padded window chooses among those it has.

    Returns:
        One token per window, bit for bit one of the features.

    Raises:
        ValueError: If windows do not fit the features.
    """
    *batch, t, h, w, c = features.shape
    logits = gather_windows(relevance, kernel_size=kernel_size, stride=stride, edges=edges, fill=float("-inf"))
    best = logits.argmax(dim=-1)
    probabilities = logits.softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    probability = probabilities.gather(-1, best[..., None]).flatten(-4)
    rows = _flat_places(best, (t, h, w), kernel_size, stride).reshape(prod(batch), prod(best.shape[-3:]))
    rows = rows + t * h * w * torch.arange(prod(batch), device=rows.device)[:, None]
    # A look-up's gradient is summed in fp32 and in one order also where windows overlap, on CUDA; gather's is not.
    tokens = F.embedding(rows, features.reshape(-1, c)).view(*batch, rows.shape[1], c)
    return straight_through(tokens, probability).unflatten(-2, best.shape[-3:])


def weighted_max_pool3d(
    features: Float[Tensor, "*b t h w c"],
    weights: Float[Tensor, "*b t h w"],
    *,
    kernel_size: Size3,
    stride: Size3,
    edges: Edges = "drop",
) -> Float[Tensor, "*b T H W c"]:
    """Take each channel's maximum over the window's tokens times their weights.

    Args:
        features: Visual tokens.
        weights: Factor of each token, such as its density; 1 everywhere is ordinary max pooling.
        kernel_size: Tokens along each axis of a window.
        stride: Tokens between the starts of neighbouring windows.
        edges: What becomes of tokens that do not fill a last window; those that a padded window lacks take no part.

    Returns:
        One token per window, compared in the weights' dtype and rounded to the features'. Among equals the gradient
        goes to the first in t-major order.

    Raises:
        ValueError: If windows do not fit the features.
    """
    return _WeightedMax.apply(features, weights, kernel_size, stride, edges)[0]


def _flat_places(
    best: Int64[Tensor, "*b T H W"], size: Size3, kernel_size: Size3, stride: Size3
) -> Int64[Tensor, "*b T H W"]:
    """Turn places inside windows into places in the flattened grid: where the window starts, and on from there."""
    steps = (size[1] * size[2], size[2], 1)

    def corners(counts: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
        t, h, w = (
            torch.arange(n, device=best.device) * s * step for n, s, step in zip(counts, strides, steps, strict=True)
        )
        return t[:, None, None] + h[:, None] + w

    return corners(best.shape[-3:], stride) + corners(kernel_size, (1, 1, 1)).flatten()[best]


class _WeightedMax(torch.autograd.Function):
    """A running maximum that copies no token; backward remembers only the place of each winner, in a byte."""

    @staticmethod
    def forward(
        features: Tensor, weights: Tensor, kernel_size: Size3, stride: Size3, edges: Edges
    ) -> tuple[Tensor, Tensor]:
        *batch, t, h, w, c = features.shape
        shape = (*batch, *output_size((t, h, w), kernel_size, stride, edges), c)
        best = torch.full(shape, float("-inf"), device=features.device, dtype=weights.dtype)
        winners = torch.zeros(
            shape, device=features.device, dtype=torch.uint8 if prod(kernel_size) <= 256 else torch.int32
        )
        for place, tokens, windows in window_offsets((t, h, w), kernel_size, stride, edges):
            candidates = features[(..., *tokens, slice(None))] * weights[(..., *tokens)][..., None]
            leader, winner = best[(..., *windows, slice(None))], winners[(..., *windows, slice(None))]
            # Places only grow, so a maximum records the last that led; masked_fill_ is much slower on a CPU.
            winner.copy_(torch.maximum(winner, (candidates > leader).to(winner.dtype) * place))
            leader.copy_(torch.maximum(leader, candidates))  # NaN stays NaN
        return best.to(features.dtype), winners

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401  torch's own type
        features, weights, *ctx.windows = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(features, weights, output[1])

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  what once_differentiable makes of it
        ctx: Any,  # noqa: ANN401
        *grads: Tensor,
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        features, weights, winners = ctx.saved_tensors
        kernel_size, stride, _ = ctx.windows
        t, h, w = features.shape[-4:-1]
        apart = all(k <= s for k, s in zip(kernel_size, stride, strict=True))
        # Where windows overlap, their gradients add up in fp32.
        to_features = torch.zeros_like(features, dtype=None if apart else weights.dtype)
        to_weights = torch.zeros_like(weights)
        for place, tokens, windows in window_offsets((t, h, w), *ctx.windows):
            won = winners[(..., *windows, slice(None))] == place
            grad = torch.where(won, grads[0][(..., *windows, slice(None))], 0)
            term = grad * weights[(..., *tokens)][..., None]
            target = to_features[(..., *tokens, slice(None))]
            _ = target.copy_(term) if apart else target.add_(term)
            products = grad * features[(..., *tokens, slice(None))]
            to_weights[(..., *tokens)].add_(products.sum(-1, dtype=weights.dtype))
        return to_features.to(features.dtype), to_weights, None, None, None
