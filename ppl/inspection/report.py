"""Tables for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ppl.inspection.lengths import Length
from ppl.inspection.reading import Fault

KINDS = ("text", "image", "multi_image", "video")
_NUM_LONGEST = 10
_NUM_SHOWN = 50
_NUM_BINS = 10
_BAR = 40
"""Characters of the fullest bin."""


def show_counts(console: Console, names: Sequence[str], kinds: Sequence[Counter[str]], broken: Sequence[int]) -> None:
    """Show how many records of each modality every part has.

    Args:
        console: To show it on.
        names: Of the parts.
        kinds: Records of each kind.
        broken: Records that cannot be read.
    """
    rows = [
        (name, *(str(of_part[kind]) for kind in KINDS), str(of_part.total()), str(count))
        for name, of_part, count in zip(names, kinds, broken, strict=True)
    ]
    every = sum(kinds, Counter())
    total = ("all", *(str(every[kind]) for kind in KINDS), str(every.total()), str(sum(broken)))
    show_table(console, "records", ("", *KINDS, "all", "broken"), [*rows, total] if len(rows) > 1 else rows)


def show_table(console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show a table of numbers.

    Args:
        console: To show it on.
        title: Of the table.
        heads: Of the columns; the first names the row.
        rows: Of text.
    """
    table = Table(title=title, title_justify="left")
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)


def show_lengths(console: Console, lengths: Sequence[Length], most: int) -> None:
    """Show how lengths are spread, and the longest.

    Args:
        console: To show them on.
        lengths: Of all records.
        most: Positions of the language model.
    """
    if not lengths:
        return
    positions = np.array([length.positions for length in lengths])
    middle, high = np.quantile(positions, [0.5, 0.95])
    console.print(
        f"Lengths in tokens of the language model after pooling, but for fixed text around media: median {middle:.0f}, "
        f"95 % at most {high:.0f}, longest {positions.max()}, the model's limit {most}",
        soft_wrap=True,
    )
    counts, edges = histogram(positions)
    for index, count in enumerate(counts):
        bar = "█" * -(-count * _BAR // max(counts))
        console.print(f"  {edges[index]:>7} - {edges[index + 1] - 1:<7} {count:>9}  {bar}")
    console.print("Longest:")
    for length in sorted(lengths, key=lambda length: -length.positions)[:_NUM_LONGEST]:
        console.print(f"  {length.positions:>7}  {length.origin}  (id {length.id})", markup=False, soft_wrap=True)


def histogram(values: np.ndarray) -> tuple[list[int], list[int]]:
    """Count whole numbers in bins of one width.

    Args:
        values: At least one.

    Returns:
        The counts, and where bins begin; the last number is where the last one stops.
    """
    low, high = int(values.min()), int(values.max()) + 1
    width = -(-(high - low) // _NUM_BINS)
    edges = list(range(low, high, width))
    edges.append(edges[-1] + width)
    return np.histogram(values, bins=edges)[0].tolist(), edges


def show_faults(console: Console, faults: Sequence[Fault], report: Path | None) -> None:
    """Show what is broken, line by line, up to a number.

    Args:
        console: To show it on.
        faults: All of them.
        report: File that has them all.
    """
    for fault in faults[:_NUM_SHOWN]:
        medium = fault.medium if fault.medium and not fault.reason.startswith(fault.medium) else ""
        told = ": ".join(word for word in (fault.origin, medium, fault.reason) if word)
        console.print(told, markup=False, soft_wrap=True)
    if len(faults) > _NUM_SHOWN and report is None:
        console.print(f"and {len(faults) - _NUM_SHOWN} more; --report FILE writes them all")
    elif len(faults) > _NUM_SHOWN:
        console.print(f"and {len(faults) - _NUM_SHOWN} more; {report} has them all", markup=False, soft_wrap=True)
    records = len({fault.origin for fault in faults})
    console.print(f"{len(faults)} faults in {records} records" if faults else "nothing is broken")
