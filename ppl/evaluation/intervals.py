"""Bootstrap intervals of means over units that come in clusters: questions about one video are not independent.

Axes: r resamples | k clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2000
LEVEL = 0.95
_LARGEST_DRAW = 2**22
"""Numbers drawn at a time, which bounds memory."""


class Interval(NamedTuple):
    """Percentiles that hold the middle `LEVEL` of the resamples."""

    low: float
    high: float


def mean_interval(values: Sequence[float], clusters: Sequence[str]) -> Interval | None:
    """Interval of a mean, whole clusters resampled (Cameron, Gelbach & Miller 2008, section III).

    Args:
        values: Of each unit.
        clusters: Of each unit.

    Returns:
        None for fewer than two clusters, of which nothing can be said.
    """
    sums, sizes = cluster_sums(values, clusters)
    if len(sums) < 2:
        return None
    return percentiles(resampled_means(sums, sizes))


def difference_interval(values: Sequence[float], others: Sequence[float], clusters: Sequence[str]) -> Interval | None:
    """Interval of the difference of two means over the same units: one draw of clusters serves both (paired)."""
    return mean_interval([a - b for a, b in zip(values, others, strict=True)], clusters)


def cluster_sums(
    values: Sequence[float], clusters: Sequence[str]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Sum of the values, and number of units, of each cluster."""
    names = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    places = [names[name] for name in clusters]
    sums = np.bincount(places, weights=values, minlength=len(names))
    return sums, np.bincount(places, minlength=len(names)).astype(float)


def resampled_means(sums: Float[np.ndarray, " k"], sizes: Float[np.ndarray, " k"]) -> Float[np.ndarray, " r"]:
    """Mean over units in each resample of as many clusters, with replacement; as many clusters, the same draws."""
    count = len(sums)
    random = np.random.default_rng(count)
    step = max(1, _LARGEST_DRAW // count)
    means = []
    for start in range(0, RESAMPLES, step):
        drawn: Int[np.ndarray, "r k"] = random.multinomial(
            count, np.full(count, 1 / count), size=min(step, RESAMPLES - start)
        )
        means.append((drawn @ sums) / (drawn @ sizes))
    return np.concatenate(means)


def percentiles(means: Float[np.ndarray, " r"]) -> Interval:
    """The middle of the resamples."""
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
