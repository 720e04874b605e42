"""Bootstrap intervals of accuracies that many cells measured on the same test videos.

Questions about one video are not independent, so videos are resampled, not questions; and since the same videos serve
every cell, one draw of videos serves them all, crossed with a draw of seeds (Owen, "The pigeonhole bootstrap", 2007).

Axes: r resamples | n things drawn from, or cells | s seeds | v videos | c categories.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ppl.ablation.results import Answer

RESAMPLES = 1000
LEVEL = 0.95
_STREAMS = {"videos": 0, "seeds": 1}  # separate random numbers: as many seeds as videos must not be drawn alike


class Interval(NamedTuple):
    """Percentiles that hold the middle `LEVEL` of the resamples."""

    low: float
    high: float


class AnswerCounts(NamedTuple):
    """The answers of several cells to the same questions."""

    correct: Float[np.ndarray, "n v c"]
    asked: Float[np.ndarray, "v c"]


def count_answers(answers: Mapping[Hashable, Sequence[Answer]]) -> AnswerCounts:
    """Count right answers and questions by cell, video and category.

    Questions are the same by id and category; which of them share a video is the first cell's word, since rows may
    sample other frames of it.

    Raises:
        ValueError: A cell has no answers, or other questions than the first cell.
    """
    first = next(iter(answers), None)
    shown = {} if first is None else {a.id: a.video for a in answers[first]}
    videos = {name: i for i, name in enumerate(sorted(set(shown.values())))}
    categories = {name: i for i, name in enumerate(sorted({a.category for cell in answers.values() for a in cell}))}
    correct = np.zeros((len(answers), len(videos), len(categories)))
    asked = np.zeros_like(correct)
    questions = [] if first is None else _questions(answers[first])
    for n, (cell, given) in enumerate(answers.items()):
        if not given or _questions(given) != questions:
            msg = (
                f"got {len(given)} answers of cell {cell}, not to the {len(questions)} questions of cell {first}; "
                "expected the same test questions in every cell: neither a row nor a seed may change the test data"
            )
            raise ValueError(msg)
        where = [videos[shown[a.id]] for a in given], [categories[a.category] for a in given]
        np.add.at(asked[n], where, 1)
        np.add.at(correct[n], where, [float(a.correct) for a in given])
    return AnswerCounts(correct, asked.max(axis=0, initial=0))


def draw(what: Literal["videos", "seeds"], count: int, resamples: int = RESAMPLES) -> Int[np.ndarray, "r n"]:
    """How often each of ``count`` things is drawn in each resample: ``count`` draws with replacement.

    The same count gives the same draws, so that a row's interval does not depend on which other rows there are.
    """
    if count == 0:
        return np.zeros((resamples, 0), dtype=np.int64)
    random = np.random.default_rng((_STREAMS[what], count))
    return random.multinomial(count, np.full(count, 1 / count), size=resamples)


def resample_accuracy(
    correct: Float[np.ndarray, "n v c"], asked: Float[np.ndarray, "v c"], drawn: Int[np.ndarray, "r v"]
) -> Float[np.ndarray, "n r"]:
    """Unweighted mean over categories of the share of right answers, each video counted as often as it was drawn.

    A category of which a resample drew no question is left out of that resample's mean.
    """
    seen = drawn @ asked
    right = np.tensordot(drawn.astype(np.float64), correct, axes=(1, 1)).transpose(1, 0, 2)
    shares = np.divide(right, seen, out=np.zeros_like(right), where=seen > 0)
    return shares.sum(axis=-1) / (seen > 0).sum(axis=-1)


def interval_over_seeds(values: Float[np.ndarray, "s r"]) -> Interval:
    """Interval of the mean over seeds, of values whose videos are resampled already; draws the seeds.

    With one seed the interval holds the chance in the test videos only.
    """
    seeds, resamples = values.shape
    means = (draw("seeds", seeds, resamples) * values.T).mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _questions(answers: Sequence[Answer]) -> list[tuple[str, str]]:
    return sorted((answer.id, answer.category) for answer in answers)
