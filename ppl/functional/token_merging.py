"""Merge visual tokens that resemble one another (token merging: Bolya et al. 2022, arXiv 2210.09461, section 3).

Axes: *b batch | t h w frames, rows, columns | g groups merged apart | n tokens | m clusters | c channels.
"""

from __future__ import annotations

from math import prod

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

_ENTRIES = 2**25
"""Numbers a temporary tensor may hold (128 MiB in fp32): frames, edges and sums are taken in parts of this size."""


def cluster_tokens(
    features: Float[Tensor, "*b t h w c"],
    *,
    per_frame: int,
    total: int,
    density: Float[Tensor, "*b t h w"] | None = None,
    protection: float = 0.0,
) -> Int64[Tensor, "*b n"]:
    """Assign every token to a cluster by bipartite soft matching: in each frame first, then across frames.

    Clusters alternate, in the order of their first tokens, between two sets. Each one of the first set has an edge to
    the cluster of the second whose mean is most similar by cosine (of equals, the first). The better half of the edges
    join their ends (of equals, the first), and the next round begins, until the wanted number is left. Joining all
    edges at once would take fewer rounds, but no round would choose.

    With a density, an edge's score is its cosine minus ``protection`` times a share: its first cluster's summed density
    over the largest among the clusters it competes with (those of its frame, later all). What the prompt asks about is
    merged last.

    Time grows with the squares of ``h * w`` and ``t * per_frame``. Memory does not: similarities are made in parts.
    Matching is in fp32 at least, and no gradient passes through it.

    Args:
        features: Visual tokens.
        per_frame: Clusters that the first stage leaves of each frame, if it has more tokens.
        total: Clusters that the second stage leaves, if there are more.
        density: Relevance as ``relevance_density`` returns it.
        protection: Cosine that the largest density outweighs; 2 is the whole range of a cosine.

    Returns:
        The cluster of each token, tokens in t-major order; clusters are numbered by their first tokens.

    Raises:
        ValueError: A number of clusters is smaller than 1, or ``protection`` is negative.
    """
    for name, value in (("per_frame", per_frame), ("total", total)):
        if value < 1:
            raise ValueError(f"got {name}={value}, expected at least one cluster: use an integer >= 1")
    if protection < 0:
        raise ValueError(f"got protection={protection}, expected a number >= 0: below, relevant tokens merge first")
    *batch, t, h, w, c = features.shape
    media, frames = prod(batch), prod(batch) * t
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        tokens = features.reshape(frames, h * w, c)
        density = (tokens.new_zeros(tokens.shape[:2]) if density is None else density).reshape(frames, h * w)
        step = max(1, _ENTRIES // (h * w * max(c, h * w)))
        parts = [
            _merge(tokens[i : i + step], density[i : i + step], per_frame, protection) for i in range(0, frames, step)
        ]
        sums, densities, inside = (torch.cat(column) for column in zip(*parts, strict=True))
        left = t * sums.shape[1]
        _, _, across = _merge(sums.view(media, left, c), densities.view(media, left), total, protection)
        first = sums.shape[1] * torch.arange(t, device=features.device)[:, None]
        return across.gather(1, (inside.view(media, t, h * w) + first).flatten(1)).view(*batch, t * h * w)


def cluster_means(
    values: Float[Tensor, "*b n c"],
    clusters: Int64[Tensor, "*b n"],
    num_clusters: int,
    weights: Float[Tensor, "*b n"] | None = None,
) -> Float[Tensor, "*b m c"]:
    """Sum each cluster's values times their weights, over the number of its tokens.

    Without weights this is the mean over tokens, which is what a mean of clusters weighted by their sizes comes to.
    With a density as weights it is PPLLaVA's Eq. 3, a cluster in a window's place.

    Args:
        values: Visual tokens.
        clusters: The cluster of each token.
        num_clusters: How many there are; each has a token.
        weights: Factor of each token; None: 1.

    Returns:
        Summed in fp32 at least, in a fixed order, and rounded to the values' dtype.
    """
    *batch, n, c = values.shape
    values, clusters = values.reshape(prod(batch), n, c), clusters.reshape(prod(batch), n)
    sums = _cluster_sums(values, clusters, num_clusters, None if weights is None else weights.reshape(prod(batch), n))
    sizes = torch.zeros_like(sums[..., 0]).scatter_add(1, clusters, torch.ones_like(clusters, dtype=sums.dtype))
    return (sums / sizes[..., None]).to(values.dtype).view(*batch, num_clusters, c)


def _merge(
    tokens: Float[Tensor, "g n c"], density: Float[Tensor, "g n"], target: int, protection: float
) -> tuple[Float[Tensor, "g m c"], Float[Tensor, "g m"], Int64[Tensor, "g n"]]:
    """Merge each group until ``target`` clusters are left; their sums (as good as means, for a cosine) and members."""
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    sums, density = tokens.to(dtype), density.to(dtype)
    g, n, _ = sums.shape
    clusters = torch.arange(n, device=sums.device).expand(g, n)
    while n > target:
        num_edges = min(n - target, max(1, n // 4))
        joined = _match(sums, density, num_edges, protection)
        n -= num_edges
        sums = _cluster_sums(sums, joined, n)
        density = _cluster_sums(density[..., None], joined, n)[..., 0]
        clusters = joined.gather(1, clusters)
    return sums, density, clusters


def _match(
    sums: Float[Tensor, "g n c"], density: Float[Tensor, "g n"], num_edges: int, protection: float
) -> Int64[Tensor, "g n"]:
    """Join the ends of the best edges; returns each cluster's number after that, in the order of first tokens."""
    g, n, _ = sums.shape
    cosine, partner = _nearest(sums[:, ::2], sums[:, 1::2])
    largest = density.amax(dim=1, keepdim=True).clamp_min(torch.finfo(density.dtype).tiny)
    score = cosine - protection * (density[:, ::2] / largest)
    chosen = score.argsort(dim=1, descending=True, stable=True)[:, :num_edges]
    own = torch.arange(n, device=sums.device).expand(g, n)
    joined = own.scatter(1, 2 * chosen, 2 * partner.gather(1, chosen) + 1)
    order = joined.argsort(dim=1, stable=True)
    leader = order.gather(1, torch.searchsorted(joined.gather(1, order), joined))  # the first that joined the same
    return ((leader == own).cumsum(dim=1) - 1).gather(1, leader)


def _nearest(
    first: Float[Tensor, "g n c"], second: Float[Tensor, "g m c"]
) -> tuple[Float[Tensor, "g n"], Int64[Tensor, "g n"]]:
    """The largest cosine of each of the first with any of the second, and which that is; never all of them at once."""
    first, second = F.normalize(first, dim=-1), F.normalize(second, dim=-1)
    step = max(1, _ENTRIES // (second.shape[0] * second.shape[1]))
    best = [(part @ second.mT).max(dim=-1) for part in first.split(step, dim=1)]
    return torch.cat([b.values for b in best], dim=1), torch.cat([b.indices for b in best], dim=1)


def _cluster_sums(
    values: Float[Tensor, "g n c"],
    clusters: Int64[Tensor, "g n"],
    num_clusters: int,
    weights: Float[Tensor, "g n"] | None = None,
) -> Float[Tensor, "g m c"]:
    """Add up the values of each cluster, in fp32 at least.

    ``embedding_bag`` adds in order, where ``index_add`` on a GPU adds in whatever order threads come.
    """
    g, n, c = values.shape
    dtype = torch.promote_types(values.dtype, torch.float32)
    dtype = dtype if weights is None else torch.promote_types(dtype, weights.dtype)
    bags = torch.arange(g * num_clusters, device=values.device)
    rows = clusters + num_clusters * torch.arange(g, device=values.device)[:, None]
    step = max(1, _ENTRIES // (g * c))
    total = values.new_zeros(g * num_clusters, c, dtype=dtype)
    for i in range(0, n, step):
        row = rows[:, i : i + step].flatten()
        order = row.argsort(stable=True)
        starts = torch.searchsorted(row[order], bags)
        part = values[:, i : i + step].to(dtype).flatten(0, 1)
        weight = None if weights is None else weights[:, i : i + step].to(dtype).flatten()[order]
        total = total + F.embedding_bag(order, part, starts, mode="sum", per_sample_weights=weight)
    return total.view(g, num_clusters, c)
