"""The tables of an ablation: Markdown to read, CSV to compute with."""

from __future__ import annotations

import csv
import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ppl.ablation.results import CellResult
from ppl.ablation.statistics import Estimate, RowStatistics

STAGES = ("decode", "tower", "pool", "prefill", "per_token")
MISSING = "–"

ACCURACY_NOTE = (
    "Accuracy in % is the unweighted mean over categories: mean over seeds ± sample standard deviation over seeds "
    "[95 % bootstrap interval over test videos and seeds]. Differences are paired, over the same videos and seeds; "
    "* marks an interval without 0, not corrected for the number of rows. With one seed there is no deviation and the "
    "interval covers the choice of test videos only. Published numbers are the papers' own: other models, other data."
)
COST_NOTE = (
    "Times in milliseconds are medians over questions, then over seeds; memory is the largest of all seeds; fit is the "
    "median over seeds. Cells that ran side by side slow each other down."
)


class Table(NamedTuple):
    """Text by line and column; the first column names the row."""

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def accuracy_table(statistics: Sequence[RowStatistics]) -> Table:
    """What each row answers rightly, beside what was published."""
    categories = category_names(statistics)
    reference = next((row.row.name for row in statistics if not row.row.control), "")
    header = (
        "row",
        "published, not re-run",
        "visual tokens",
        "accuracy ± std [95 %]",
        f"difference to {reference} [95 %]" if reference else "difference [95 %]",
        *categories,
        "seeds done / failed",
    )
    lines = tuple(
        (
            row.row.title or row.row.name,
            row.row.published or MISSING,
            _number(row.tokens),
            _accuracy(row),
            _difference(row, reference),
            *(_percent(row.categories[name].mean) if name in row.categories else MISSING for name in categories),
            f"{len(row.finished)} / {len(row.failed)}",
        )
        for row in statistics
    )
    return Table(header, lines)


def cost_table(statistics: Sequence[RowStatistics]) -> Table:
    """What each row takes."""
    stages = (f"{stage.replace('_', ' ')} ms" for stage in STAGES)
    lines = tuple(
        (
            row.row.title or row.row.name,
            _number(row.tokens),
            *(_number(row.stage_ms(stage)) for stage in STAGES),
            _number(row.peak_memory_mib),
            _number(row.fit_seconds),
        )
        for row in statistics
    )
    return Table(("row", "visual tokens", *stages, "peak memory MiB", "fit s"), lines)


def failed_cells(statistics: Sequence[RowStatistics]) -> list[tuple[CellResult, str]]:
    """Each failed cell with the last line of its error."""
    return [(cell, cell.error.strip().rpartition("\n")[2]) for row in statistics for cell in row.failed]


def category_names(statistics: Sequence[RowStatistics]) -> list[str]:
    """Every category that a finished cell answered, sorted."""
    return sorted({name for row in statistics for name in row.categories})


def markdown(statistics: Sequence[RowStatistics]) -> str:
    """Both tables, with notes, and the failed cells."""
    blocks = [_markdown_table(accuracy_table(statistics)), ACCURACY_NOTE]
    blocks += [_markdown_table(cost_table(statistics)), COST_NOTE]
    failed = [f"- {_escape(f'{cell.row}, seed {cell.seed}: {line}')}" for cell, line in failed_cells(statistics)]
    if failed:
        blocks.append("\n".join(["Failed cells:", "", *failed]))
    return "\n\n".join(blocks) + "\n"


def write_csv(path: str | Path, statistics: Sequence[RowStatistics]) -> None:
    """Write one line a row: shares from 0 to 1 in full precision, an empty field where there is nothing."""
    lines = [_csv_line(row, category_names(statistics)) for row in statistics]
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0] if lines else ["row"])
        writer.writeheader()
        writer.writerows(lines)


def _csv_line(row: RowStatistics, categories: Sequence[str]) -> dict[str, str | int | float | None]:
    accuracy, interval, difference = row.accuracy, row.interval, row.difference
    line: dict[str, str | int | float | None] = {
        "row": row.row.name,
        "title": row.row.title,
        "control": int(row.row.control),
        "published_not_rerun": row.row.published,
        "tokens": row.tokens,
        "accuracy_mean": accuracy and accuracy.mean,
        "accuracy_std": accuracy and accuracy.std,
        "accuracy_low": interval and interval.low,
        "accuracy_high": interval and interval.high,
        "reference": difference and difference.reference,
        "difference": difference and difference.mean,
        "difference_low": difference and difference.interval.low,
        "difference_high": difference and difference.interval.high,
        "difference_excludes_zero": difference and int(difference.excludes_zero),
    }
    for name in categories:
        estimate = row.categories.get(name, Estimate(float("nan"), None))
        line[f"category.{name}.mean"] = estimate.mean if name in row.categories else None
        line[f"category.{name}.std"] = estimate.std
    line |= {f"{stage}_ms": row.stage_ms(stage) for stage in STAGES}
    return line | {
        "peak_memory_mib": row.peak_memory_mib,
        "fit_seconds": row.fit_seconds,
        "seeds_done": len(row.finished),
        "seeds_failed": len(row.failed),
    }


def _accuracy(row: RowStatistics) -> str:
    if row.accuracy is None or row.interval is None:
        return MISSING
    std = MISSING if row.accuracy.std is None else _percent(row.accuracy.std)
    return f"{_percent(row.accuracy.mean)} ± {std} [{_percent(row.interval.low)}, {_percent(row.interval.high)}]"


def _difference(row: RowStatistics, reference: str) -> str:
    if row.difference is None:
        return "reference" if row.row.name == reference and row.finished else MISSING
    mean, (low, high) = row.difference.mean, row.difference.interval
    star = " *" if row.difference.excludes_zero else ""
    return f"{_signed(mean)} [{_signed(low)}, {_signed(high)}]{star}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _number(value: int | float | None) -> str:
    """Three figures where a value is small, whole numbers where it is not."""
    if value is None:
        return MISSING
    return f"{value:.0f}" if isinstance(value, int) or value >= 100 else f"{value:.3g}"


def _markdown_table(table: Table) -> str:
    rule = ("---", *("---:" for _ in table.header[1:]))
    return "\n".join("| " + " | ".join(map(_escape, line)) + " |" for line in (table.header, rule, *table.lines))


def _escape(text: str) -> str:
    """Keep users' text from ending a cell or becoming HTML."""
    return html.escape(" ".join(text.split()), quote=False).replace("\\", "\\\\").replace("|", "\\|")
