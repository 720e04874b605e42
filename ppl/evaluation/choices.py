"""Marks of multiple-choice answers."""

from __future__ import annotations

from ppl.evaluation.protocol import Mark
from ppl.evaluation.rows import Row

ACCURACY = {"accuracy": 100.0}
"""The metric of a multiple-choice protocol, as a percentage."""


def mark_choice(row: Row, parsed: str | None, *, unparsed_counts: bool = True) -> Mark:
    """1 for the letter of the reference, 0 for another one.

    Args:
        row: Whose ``answer`` is a letter; None: its authors keep it, and there is nothing to compare with.
        parsed: The letter that was read; None: none could be.
        unparsed_counts: Whether an answer without a letter is wrong; otherwise it is left out of the mean.
    """
    if row.answer is None or (parsed is None and not unparsed_counts):
        return Mark({"accuracy": None}, parsed)
    return Mark({"accuracy": float(parsed == row.answer)}, parsed)
