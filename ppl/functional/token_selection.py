"""Keep some visual tokens as they are: the most relevant, or random ones.

Axes: *b batch | t h w frames, rows, columns | g groups chosen from apart | n tokens of the grid, then of the result
| k tokens kept | c channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ppl.functional.density import density_weights
from ppl.functional.relevance import relevance_distribution
from ppl.functional.straight_through import straight_through
from ppl.functional.window_sums import window_sum
from ppl.functional.windows import Edges, Size3


def most_relevant(relevance: Float[Tensor, "*b n"], k: int) -> Int64[Tensor, "*b k"]:
    """Find the k largest; of equals the first. ``torch.topk`` does not say which of equals it takes.

    Args:
        relevance: Logits or probabilities.
        k: How many, at most n.

    Returns:
        Their places, in rising order.
    """
    order = relevance.detach().argsort(dim=-1, descending=True, stable=True)
    return order[..., :k].sort(dim=-1).values


@torch.compiler.assume_constant_result
def random_places(groups: int, n: int, keep: int, seed: int) -> Int64[Tensor, "g k"]:
    """Draw ``keep`` of the numbers below n for each group, without replacement.

    The draw depends on the arguments alone, not on the global generator or the device. A compiled graph keeps it as a
    constant, for which the arguments must be integers it knows.

    Args:
        groups: How many draws; the first ones of more groups are those of fewer.
        n: Tokens of one group.
        keep: Tokens drawn from each, at most n.
        seed: Of the draw.

    Returns:
        The numbers, in rising order, on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randperm(n, generator=generator, device="cpu")[:keep].sort().values for _ in range(groups)]
    return torch.stack(draws)


def keep_and_pool(
    features: Float[Tensor, "*b t h w c"],
    relevance: Float[Tensor, "*b t h w"],
    k: int,
    *,
    kernel_size: Size3,
    edges: Edges = "drop",
) -> Float[Tensor, "*b n c"]:
    """Keep the k most relevant tokens as they are and pool the others over windows that tile the grid.

    Windows are pooled as by Eq. 3 of PPLLaVA over the tokens that are not kept: each of them times its density, which
    is its probability in a softmax over them alone, times their number; averaged. Kept tokens have no part in this, so
    that windows do not fade beside them. A window of kept tokens only is their plain mean. With no token kept this is
    Eq. 3. Relevance gets the gradient of these weights, and one as if each kept token were multiplied by its
    probability in the whole clip's softmax.

    Args:
        features: Visual tokens.
        relevance: Logits of the prompt-to-token similarity.
        k: Tokens to keep.
        kernel_size: Tokens along each axis of a window.
        edges: What becomes of tokens that fill no last window; they may still be kept.

    Returns:
        The kept tokens, bit for bit, then one token per window; both in t-major order.

    Raises:
        ValueError: If windows do not fit the features.
    """
    logits = relevance.flatten(-3)
    places = most_relevant(logits, k)
    chosen = features.flatten(-4, -2).gather(-2, places[..., None].expand(*places.shape, features.shape[-1]))
    kept = straight_through(chosen, relevance_distribution(relevance).flatten(-3).gather(-1, places))
    left = logits.shape[-1] - places.shape[-1]
    if left > 0:  # a softmax over none is not a number; where none is left, no density is used
        logits = logits.scatter(-1, places, float("-inf"))
    density = relevance_distribution(logits.view_as(relevance)) * left
    counted = torch.ones_like(density).flatten(-3).scatter(-1, places, 0.0).view_as(density)
    windows = {"kernel_size": kernel_size, "stride": kernel_size, "edges": edges}
    weights = density_weights(density, counted=counted, **windows)
    return torch.cat([kept, window_sum(features, weights, **windows).flatten(-4, -2)], dim=-2)
