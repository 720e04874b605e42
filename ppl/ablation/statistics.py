"""What the cells of an ablation say together: means, spreads, intervals and differences by row.

Axes: n cells | r resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median, median_low, stdev
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ppl.ablation.bootstrap import Interval, count_answers, draw, interval_over_seeds, resample_accuracy
from ppl.ablation.results import CellResult, Row, read_answers

_TOLERANCE = 1e-4  # CellResult.accuracy was divided in float32


class Estimate(NamedTuple):
    """A share of right answers over seeds."""

    mean: float
    std: float | None
    """Sample standard deviation (n - 1); None for one seed, where there is none."""


class Difference(NamedTuple):
    """A row's mean accuracy minus the reference row's, over the seeds that both finished."""

    reference: str
    mean: float
    interval: Interval

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.interval.low > 0 or self.interval.high < 0


@dataclass(frozen=True)
class RowStatistics:
    """One row over its seeds; of a row without a finished seed only ``row`` and ``failed`` say anything."""

    row: Row
    finished: tuple[CellResult, ...] = ()
    """By seed."""
    failed: tuple[CellResult, ...] = ()
    accuracy: Estimate | None = None
    """Of the unweighted mean over categories."""
    interval: Interval | None = None
    """Of ``accuracy``."""
    categories: dict[str, Estimate] = field(default_factory=dict)
    difference: Difference | None = None
    """None for the reference row itself and where no seed was finished by both."""

    @property
    def tokens(self) -> int | None:
        """Visual tokens: the median over seeds, which should not differ."""
        return median_low(cell.tokens for cell in self.finished) if self.finished else None

    @property
    def peak_memory_mib(self) -> float | None:
        """The largest of all seeds."""
        return max((cell.peak_memory_mib for cell in self.finished), default=None)

    @property
    def fit_seconds(self) -> float | None:
        """The median over seeds; None where none measured it."""
        measured = [cell.seconds["fit"] for cell in self.finished if cell.seconds and "fit" in cell.seconds]
        return median(measured) if measured else None

    def stage_ms(self, stage: str) -> float | None:
        """The median over seeds of the cells' medians; None where no cell measured the stage."""
        measured = [cell.stage_ms[stage] for cell in self.finished if cell.stage_ms and stage in cell.stage_ms]
        return median(measured) if measured else None


def summarise(rows: Sequence[Row], results: Sequence[CellResult], folder: str | Path) -> list[RowStatistics]:
    """Sum up every row over its seeds, in the order of ``rows``.

    Args:
        rows: The grid's rows; the first that is no control is the reference of every `Difference`.
        results: The cells so far; cells may be missing or failed.
        folder: The ablation's folder, where the cells' folders with ``answers.jsonl`` lie.

    Raises:
        ValueError: A result belongs to no row or comes twice, its answers do not give its accuracy, or two cells
            answered different questions.
    """
    _check_cells(rows, results)
    finished = [cell for cell in results if not cell.error]
    resampled = _resample(finished, Path(folder))
    reference = next((row.name for row in rows if not row.control), "")
    compared = {cell.seed: cell for cell in finished if cell.row == reference}
    return [_summarise_row(row, results, resampled, compared) for row in rows]


def _resample(finished: Sequence[CellResult], folder: Path) -> dict[str, Float[np.ndarray, " r"]]:
    """Mean accuracy of each cell, by folder, in each resample of the test videos."""
    counts = count_answers({cell.folder: read_answers(folder / cell.folder / "answers.jsonl") for cell in finished})
    videos = counts.asked.shape[0]
    answered = resample_accuracy(*counts, np.ones((1, videos), dtype=np.int64))[:, 0].tolist()
    for cell, accuracy in zip(finished, answered, strict=True):
        if abs(accuracy - _mean_accuracy(cell)) > _TOLERANCE:
            msg = (
                f"got a mean accuracy of {_mean_accuracy(cell):.4f} for row {cell.row!r}, seed {cell.seed}, but "
                f"{cell.folder}/answers.jsonl gives {accuracy:.4f}; expected the same: run the cell again"
            )
            raise ValueError(msg)
    values = resample_accuracy(*counts, draw("videos", videos))
    return {cell.folder: values[n] for n, cell in enumerate(finished)}


def _summarise_row(
    row: Row,
    results: Sequence[CellResult],
    resampled: dict[str, Float[np.ndarray, " r"]],
    compared: dict[int, CellResult],
) -> RowStatistics:
    cells = sorted((cell for cell in results if cell.row == row.name), key=lambda cell: cell.seed)
    failed = tuple(cell for cell in cells if cell.error)
    finished = tuple(cell for cell in cells if not cell.error)
    if not finished:
        return RowStatistics(row, failed=failed)
    shares = [cell.accuracy or {} for cell in finished]
    return RowStatistics(
        row,
        finished,
        failed,
        accuracy=_estimate([_mean_accuracy(cell) for cell in finished]),
        interval=interval_over_seeds(np.stack([resampled[cell.folder] for cell in finished])),
        categories={name: _estimate([share[name] for share in shares]) for name in shares[0] if name != "mean"},
        difference=_difference(finished, resampled, compared),
    )


def _difference(
    finished: tuple[CellResult, ...],
    resampled: dict[str, Float[np.ndarray, " r"]],
    compared: dict[int, CellResult],
) -> Difference | None:
    pairs = [(cell, compared[cell.seed]) for cell in finished if cell.seed in compared]
    if not pairs or pairs[0][0].row == pairs[0][1].row:
        return None
    mean = fmean(_mean_accuracy(cell) - _mean_accuracy(other) for cell, other in pairs)
    values = np.stack([resampled[cell.folder] - resampled[other.folder] for cell, other in pairs])
    return Difference(pairs[0][1].row, mean, interval_over_seeds(values))


def _estimate(values: list[float]) -> Estimate:
    return Estimate(fmean(values), stdev(values) if len(values) > 1 else None)


def _mean_accuracy(cell: CellResult) -> float:
    assert cell.accuracy is not None, f"cell {cell.folder} has neither an accuracy nor an error"
    return cell.accuracy["mean"]


def _check_cells(rows: Sequence[Row], results: Sequence[CellResult]) -> None:
    names = [row.name for row in rows]
    cells = [(cell.row, cell.seed) for cell in results]
    strays = sorted({name for name, _ in cells} - set(names))
    twice = sorted({cell for cell in cells if cells.count(cell) > 1})
    if strays or twice:
        msg = (
            f"got results of rows {strays} that the ablation does not name and several of the cells {twice}, "
            f"expected at most one result for each seed of the rows {names}; take the others out"
        )
        raise ValueError(msg)
