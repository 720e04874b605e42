from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.functional.pooling import weighted_pool3d
from ppl.functional.windows import output_size, window_offsets

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
    gathered = torch.stack([grid[o.tokens] for o in window_offsets(size, kernel_size, stride)], dim=-1)
    for window in product(*map(range, gathered.shape[:3])):
        start = [i * s for i, s in zip(window, stride, strict=True)]
        t, h, w = (slice(a, a + k) for a, k in zip(start, kernel_size, strict=True))
        assert gathered[window].tolist() == grid[t, h, w].flatten().tolist()


def test_slices_are_views():
    grid = torch.zeros(4, 4, 4)
    for offset in window_offsets((4, 4, 4), (2, 2, 2), (2, 2, 2)):
        grid[offset.tokens] += 1
    assert (grid == 1).all()


@pytest.mark.parametrize(
    ("kernel_size", "message"),
    [
        (
            (9, 3, 3),
            "kernel_size=(9, 3, 3) does not fit a grid of (t, h, w)=(4, 24, 24): "
            "use a kernel of at most (4, 24, 24), or more frames, or edges: pad",
        ),
        (
            (2, 25, 3),
            "kernel_size=(2, 25, 3) does not fit a grid of (t, h, w)=(4, 24, 24): "
            "use a kernel of at most (4, 24, 24), or larger images, or edges: pad",
        ),
    ],
)
def test_a_kernel_larger_than_the_grid_is_an_error(kernel_size, message):
    with pytest.raises(ValueError, match=r"does not fit") as error:
        output_size((4, 24, 24), kernel_size, (1, 1, 1))
    assert str(error.value) == message
    with pytest.raises(ValueError, match=r"does not fit"):
        next(window_offsets((4, 24, 24), kernel_size, (1, 1, 1)))


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


@given(grids, small, small)
@settings(deadline=None, max_examples=60)
def test_padding_counts_what_torch_counts_and_reaches_every_token_a_window_can(size, kernel_size, stride):
    windows = output_size(size, kernel_size, stride, "pad")
    if all(k <= i for k, i in zip(kernel_size, size, strict=True)):
        pooled = torch.nn.functional.max_pool3d(torch.zeros(1, 1, *size), kernel_size, stride, ceil_mode=True)
        assert windows == tuple(pooled.shape[2:])
    reached = torch.zeros(size)
    for offset in window_offsets(size, kernel_size, stride, "pad"):
        reached[offset.tokens] += 1
    if all(k >= s for k, s in zip(kernel_size, stride, strict=True)):
        assert (reached > 0).all()


@pytest.mark.parametrize(
    ("size", "dropped", "padded"), [((32, 27, 27), 1296, 1296), ((32, 16, 16), 400, 576), ((33, 24, 24), 1024, 1088)]
)
def test_grids_that_windows_of_three_tile_and_those_they_do_not(size, dropped, padded):
    window = ((2, 3, 3), (2, 3, 3))
    assert prod(output_size(size, *window, "drop")) == dropped
    assert prod(output_size(size, *window, "pad")) == padded
    if dropped == padded:
        assert output_size(size, *window, "error") == output_size(size, *window)
    else:
        with pytest.raises(ValueError, match=r"leaves \(., ., .\) \(t, h, w\) of a grid of .* edges: drop \| pad$"):
            output_size(size, *window, "error")


@pytest.mark.parametrize("edges", ["drop", "pad", "error"])
@pytest.mark.parametrize(("side", "whole", "padded"), [(27, 9, 9), (16, 5, 6)])
def test_windows_of_three_on_the_grids_of_siglip_and_of_merged_patches(side, whole, padded, edges):
    size, window = (2, side, side), {"kernel_size": (2, 3, 3), "stride": (2, 3, 3)}
    features = torch.randn(*size, 4, dtype=torch.float64)
    uniform = torch.zeros(size, dtype=torch.float64)
    if edges == "error" and padded != whole:
        with pytest.raises(ValueError, match=r"leaves \(0, 1, 1\) \(t, h, w\) of a grid of \(2, 16, 16\) over"):
            weighted_pool3d(features, uniform, **window, edges=edges)
        return
    pooled = weighted_pool3d(features, uniform, **window, edges=edges)
    count = padded if edges == "pad" else whole
    assert pooled.shape == (1, count, count, 4)
    expected = torch.nn.functional.avg_pool3d(
        features.movedim(-1, 0)[None], **window, ceil_mode=edges == "pad", count_include_pad=False
    )
    # Double precision: only the order of sums differs.
    torch.testing.assert_close(pooled, expected[0].movedim(0, -1), atol=1e-12, rtol=1e-12)
