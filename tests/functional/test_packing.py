from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.functional.packing import fit_rows, restarting_positions, segment_lengths


def test_longest_first_each_where_it_fits():
    """By hand: 7 opens a row, 6 a second, 4 joins the second, 3 the first, 2 opens a third."""
    assert fit_rows([3, 7, 4, 2, 6], 10) == [[0, 1], [2, 4], [3]]
    assert fit_rows([3, 7, 4, 2, 6], None) == [[0, 1, 2, 3, 4]]
    assert fit_rows([], 10) == []


def fewest_rows(lengths, row_length):
    """By trying every assignment."""
    for rows in range(1, len(lengths) + 1):
        for places in product(range(rows), repeat=len(lengths)):
            filled = [sum(n for n, at in zip(lengths, places, strict=True) if at == row) for row in range(rows)]
            if max(filled) <= row_length:
                return rows
    return 0


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_every_sample_once_in_few_rows(lengths):
    rows = fit_rows(lengths, 9)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 9 for row in rows)
    assert len(rows) <= 11 / 9 * fewest_rows(lengths, 9) + 6 / 9
    assert rows == sorted(sorted(row) for row in rows)


def test_a_sample_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match=r"got a sample of 7 positions \(index 1 of its batch\) for packed rows of 6"):
        fit_rows([3, 7], 6)


ROWS = st.lists(st.lists(st.integers(1, 4), max_size=4), min_size=1, max_size=4).filter(any)


@settings(deadline=None, max_examples=25)
@given(ROWS)
def test_positions_start_again_and_lengths_come_back(rows):
    length = max(map(sum, rows))
    numbers = [[n for n, size in enumerate(row, 1) for _ in range(size)] for row in rows]
    padding = [length - len(row) for row in numbers]
    positions = [
        [i for size in row for i in range(size)] + list(range(left)) for row, left in zip(rows, padding, strict=True)
    ]
    segments = torch.tensor([row + [0] * left for row, left in zip(numbers, padding, strict=True)])
    assert restarting_positions(segments).tolist() == positions
    assert segment_lengths(segments).tolist() == [size for row in rows for size in row]


def test_a_batch_without_packing():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 1]])
    assert segment_lengths(mask).tolist() == [3, 1, 2]
    assert restarting_positions(mask).tolist() == [[0, 1, 2], [0, 0, 1], [0, 0, 1]]
