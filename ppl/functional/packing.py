"""Several samples in one row: which share a row, and where each of them starts.

A packed row numbers its samples: its attention mask is 1 on the first, 2 on the second, … and 0 on padding.

Axes: b rows | l text positions, visual placeholders included | n samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor


def fit_rows(lengths: Sequence[int], row_length: int | None) -> list[list[int]]:
    """Put samples into few rows: the longest first, each into the first row with room for it (first-fit decreasing).

    At most 11/9 of the fewest possible rows and 6/9 more (Dósa 2007, "The tight bound of first fit decreasing
    bin-packing algorithm").

    Args:
        lengths: Positions of each sample.
        row_length: Most positions of a row; None: there is one row, for all.

    Returns:
        The samples of each row, as indices. They keep their order within rows, and rows that of their first samples.

    Raises:
        ValueError: A sample is longer than a row.
    """
    if row_length is None:
        return [list(range(len(lengths)))]
    longest = max(lengths, default=0)
    if longest > row_length:
        raise ValueError(
            f"got a sample of {longest} positions (index {lengths.index(longest)} of its batch) for packed rows of "
            f"{row_length}, expected it to fit into one; raise row_length"
        )
    rows: list[list[int]] = []
    room: list[int] = []
    for sample in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((i for i, left in enumerate(room) if left >= lengths[sample]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(row_length)
        rows[row].append(sample)
        room[row] -= lengths[sample]
    return sorted(map(sorted, rows))


def restarting_positions(segments: Int64[Tensor, "b l"]) -> Int64[Tensor, "b l"]:
    """Number positions from 0 in each stretch of equal numbers: those a sample would have alone."""
    index = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return index - (index * begins).cummax(dim=1).values


def segment_lengths(segments: Int64[Tensor, "b l"]) -> Int64[Tensor, " n"]:
    """Positions of each sample, row by row, left to right; padding is no sample."""
    rows = torch.arange(len(segments), device=segments.device)[:, None]
    numbers = segments + rows * (segments.max() + 1)
    counts = torch.bincount(numbers[segments > 0])
    return counts[counts > 0]
