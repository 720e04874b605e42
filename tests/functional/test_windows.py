from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.functional.windows import output_size, window_slices

grids = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
small = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


@pytest.mark.parametrize(
    ("size", "kernel_size", "num_tokens"),
    [
        ((32, 24, 24), (2, 3, 3), 1024),
        ((64, 24, 24), (2, 3, 3), 2048),
        ((64, 24, 24), (4, 3, 3), 1024),
        ((16, 24, 24), (2, 3, 3), 512),
        ((33, 24, 24), (2, 3, 3), 1024),
        ((32, 27, 27), (2, 3, 3), 1296),
        ((1, 24, 24), (1, 3, 3), 64),
    ],
)
def test_token_counts_of_the_paper_and_the_released_code(size, kernel_size, num_tokens):
    assert prod(output_size(size, kernel_size, kernel_size)) == num_tokens


@given(grids, small, small)
@settings(deadline=None, max_examples=60)
def test_output_size_counts_what_unfold_counts(size, kernel_size, stride):
    kernel_size = tuple(map(min, kernel_size, size))
    grid = torch.empty(size)
    for axis in range(3):
        grid = grid.unfold(axis, kernel_size[axis], stride[axis])
    assert output_size(size, kernel_size, stride) == tuple(grid.shape[:3])


@given(grids, small, small)
@settings(deadline=None, max_examples=60)
def test_slices_list_the_tokens_of_every_window_in_t_major_order(size, kernel_size, stride):
    kernel_size = tuple(map(min, kernel_size, size))
    grid = torch.arange(prod(size)).view(size)
    gathered = torch.stack([grid[s] for s in window_slices(size, kernel_size, stride)], dim=-1)
    for window in product(*map(range, gathered.shape[:3])):
        start = [i * s for i, s in zip(window, stride, strict=True)]
        t, h, w = (slice(a, a + k) for a, k in zip(start, kernel_size, strict=True))
        assert gathered[window].tolist() == grid[t, h, w].flatten().tolist()


def test_slices_are_views():
    grid = torch.zeros(4, 4, 4)
    for slices in window_slices((4, 4, 4), (2, 2, 2), (2, 2, 2)):
        grid[slices] += 1
    assert (grid == 1).all()


@pytest.mark.parametrize(
    ("kernel_size", "message"),
    [
        (
            (9, 3, 3),
            "kernel_size=(9, 3, 3) does not fit a grid of (t, h, w)=(4, 24, 24): "
            "use a kernel of at most (4, 24, 24), or more frames",
        ),
        (
            (2, 25, 3),
            "kernel_size=(2, 25, 3) does not fit a grid of (t, h, w)=(4, 24, 24): "
            "use a kernel of at most (4, 24, 24), or larger images",
        ),
    ],
)
def test_a_kernel_larger_than_the_grid_is_an_error(kernel_size, message):
    with pytest.raises(ValueError, match=r"does not fit") as error:
        output_size((4, 24, 24), kernel_size, (1, 1, 1))
    assert str(error.value) == message
    with pytest.raises(ValueError, match=r"does not fit"):
        next(window_slices((4, 24, 24), kernel_size, (1, 1, 1)))


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "name"),
    [
        ((0, 4, 4), (1, 1, 1), (1, 1, 1), r"size=\(0, 4, 4\)"),
        ((4, 4, 4), (1, 0, 1), (1, 1, 1), r"kernel_size=\(1, 0, 1\)"),
        ((4, 4, 4), (1, 1, 1), (1, 1, -1), r"stride=\(1, 1, -1\)"),
    ],
)
def test_axes_smaller_than_one_are_an_error(size, kernel_size, stride, name):
    with pytest.raises(ValueError, match=f"^{name} has an axis smaller than 1"):
        output_size(size, kernel_size, stride)
