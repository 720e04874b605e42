import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ppl.functional.positions import (
    append_random_positions,
    extend_positions,
    grid_positions,
    interpolate_positions,
    stretch_positions,
)


@pytest.mark.parametrize(("length", "stretched"), [(77, 248), (64, 196)])
def test_lengths_of_clip_and_siglip(length, stretched):
    assert stretch_positions(torch.randn(length, 3)).shape == (stretched, 3)


def test_agrees_with_the_released_code_row_by_row():
    table = torch.randn(77, 5, dtype=torch.float64)
    stretched = stretch_positions(table)
    for i in range(20):
        assert torch.equal(stretched[i], table[i])
    for m in range(56):
        for k in range(4):
            expected = (1 - k / 4) * table[20 + m] + k / 4 * table[21 + m]
            torch.testing.assert_close(stretched[20 + 4 * m + k], expected)
    for k in range(4):
        torch.testing.assert_close(stretched[244 + k], table[76] + k / 4 * (table[76] - table[75]))


def test_agrees_with_eq4_at_rate_one_half():
    table = torch.randn(6, 2, dtype=torch.float64)
    stretched = stretch_positions(table, keep=0, rate=0.5)
    for i in range(11):  # Eq. 4 itself stops at the last old position
        j = i * 0.5
        low, high = table[math.floor(j)], table[min(math.floor(j) + 1, 5)]
        torch.testing.assert_close(stretched[i], low + (j - math.floor(j)) * (high - low))


def test_is_continuous_where_the_stretching_starts():
    table = torch.randn(77, 4, dtype=torch.float64)
    steps = stretch_positions(table).diff(dim=0)
    torch.testing.assert_close(steps[18], table[19] - table[18])
    torch.testing.assert_close(steps[19], table[20] - table[19])
    torch.testing.assert_close(steps[20], (table[21] - table[20]) / 4)


@given(st.integers(2, 12), st.integers(0, 11), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_a_linear_table_stays_linear_and_old_positions_survive(length, keep, steps):
    keep = min(keep, length - 1)
    table = torch.arange(length, dtype=torch.float64)[:, None] * torch.tensor([1.0, -3.0]).double()
    stretched = stretch_positions(table, keep, 1 / steps)
    assert len(stretched) == keep + (length - keep) * steps
    position = torch.cat([torch.arange(keep), keep + torch.arange((length - keep) * steps) / steps]).double()
    torch.testing.assert_close(stretched[:, 0], position, atol=1e-6, rtol=0)  # position was divided in fp32
    assert torch.equal(stretched[keep::steps], table[keep:])


def test_rate_one_changes_nothing():
    table = torch.randn(9, 3)
    assert torch.equal(stretch_positions(table, keep=4, rate=1.0), table)


def test_keeps_dtype_and_gradient():
    table = torch.randn(24, 3).bfloat16().requires_grad_()
    stretched = stretch_positions(table)
    stretched.sum().backward()
    assert stretched.dtype == torch.bfloat16
    assert (table.grad != 0).all()


@pytest.mark.parametrize("rate", [0.3, 2.0, 0.0, -0.25])
def test_a_rate_that_is_not_one_over_an_integer_is_an_error(rate):
    with pytest.raises(ValueError, match=rf"rate={rate} is not one over an integer: use 1/2, 1/3, 1/4"):
        stretch_positions(torch.randn(77, 2), rate=rate)


@pytest.mark.parametrize(("length", "keep"), [(20, 20), (5, -1), (1, 0)])
def test_a_table_without_positions_to_stretch_is_an_error(length, keep):
    with pytest.raises(ValueError, match=rf"keep={keep} does not fit a table of {length} positions"):
        stretch_positions(torch.randn(length, 2), keep)


@given(st.integers(2, 12), st.integers(0, 40))
@settings(deadline=None, max_examples=60)
def test_even_positions_agree_with_eq4_one_by_one(old, more):
    table = torch.randn(old, 3, dtype=torch.float64)
    spread = interpolate_positions(table, old + more)
    assert len(spread) == old + more
    rows = [*table, 2 * table[-1] - table[-2]]
    for i, row in enumerate(spread):
        floor = i * old // (old + more)
        fraction = i * old / (old + more) - floor
        # Double precision: one interpolation of numbers of size 3.
        torch.testing.assert_close(row, rows[floor] + fraction * (rows[floor + 1] - rows[floor]), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("old", "length"), [(77, 248), (64, 196)])
def test_even_positions_are_torch_s_linear_interpolation(old, length):
    """With the extrapolated row both ends are aligned: old steps become ``length`` steps."""
    table = torch.randn(old, 5, dtype=torch.float64)
    extended = torch.cat([table, 2 * table[-1:] - table[-2:-1]])
    expected = F.interpolate(extended.T[None], size=length + 1, mode="linear", align_corners=True)[0].T[:length]
    torch.testing.assert_close(interpolate_positions(table, length), expected, atol=1e-12, rtol=0)


def test_even_positions_at_twice_the_length_keep_every_old_one():
    table = torch.randn(9, 4)
    assert torch.equal(interpolate_positions(table, 18)[::2], table)
    assert torch.equal(interpolate_positions(table, 9), table)


def test_a_random_tail_leaves_the_trained_positions_alone():
    table = 0.3 * torch.randn(77, 64) + 1
    longer = append_random_positions(table, 248)
    assert torch.equal(longer[:77], table)
    tail = longer[77:].double()
    # 171 * 64 numbers: their mean and spread are known to 1 %, so 5 % of the spread is five times that.
    assert tail.mean().abs() < 0.05 * 0.3
    assert tail.std().item() == pytest.approx(0.3, rel=0.05)
    assert tail.unique().numel() > 10_000


def test_a_random_tail_depends_on_its_seed_alone():
    table = torch.randn(7, 4)
    torch.manual_seed(1)
    first = append_random_positions(table, 12, seed=3)
    torch.manual_seed(2)
    assert torch.equal(append_random_positions(table, 12, seed=3), first)
    assert not torch.equal(append_random_positions(table, 12, seed=4), first)


@pytest.mark.parametrize(("old", "longer"), [(77, 248), (64, 196)])
def test_all_contexts_have_one_length(old, longer):
    table = torch.randn(old, 6)
    lengths = {context: len(extend_positions(table, context)) for context in ("asymmetric", "uniform", "random_tail")}
    assert lengths == dict.fromkeys(lengths, longer)
    assert torch.equal(extend_positions(table, "off"), table)


def test_each_context_is_its_function():
    table = torch.randn(11, 6)
    options = {"keep": 3, "rate": 0.5}
    assert torch.equal(extend_positions(table, "asymmetric", **options), stretch_positions(table, 3, 0.5))
    assert torch.equal(extend_positions(table, "uniform", **options), interpolate_positions(table, 19))
    random = append_random_positions(table, 19, seed=5)
    assert torch.equal(extend_positions(table, "random_tail", **options, seed=5), random)


@pytest.mark.parametrize("context", ["asymmetric", "uniform", "random_tail"])
def test_every_context_keeps_dtype_and_gradient(context):
    table = torch.randn(24, 3).bfloat16().requires_grad_()
    longer = extend_positions(table, context)
    longer.sum().backward()
    assert longer.dtype == torch.bfloat16
    assert (table.grad != 0).all()


def test_unusable_contexts_are_errors():
    unchecked = inspect.unwrap(extend_positions)  # the type checker of the tests would complain first
    with pytest.raises(ValueError, match=r"context='even' is unknown: use one of \('asymmetric', 'uniform', 'random"):
        unchecked(torch.randn(24, 2), "even")
    for extend in (interpolate_positions, append_random_positions):
        with pytest.raises(ValueError, match=r"length=23 is less than the table's 24 positions: .* use >= 24"):
            extend(torch.randn(24, 2), 23)
    with pytest.raises(ValueError, match="got a table of 1 positions, expected at least 2 to interpolate between"):
        interpolate_positions(torch.randn(1, 2), 4)


def test_grid_features_by_hand():
    features = grid_positions((1, 2, 4), 14, max_half_waves=4.0)
    assert features.shape == (1, 2, 4, 14)
    t, h, w = 1 / 2, 3 / 4, 5 / 8  # centres of frame 0, row 1, column 2
    expected = [f(math.pi * n * u) for u in (t, h, w) for f in (math.sin, math.cos) for n in (1, 4)] + [0.0, 0.0]
    assert features[0, 1, 2].tolist() == pytest.approx(expected, abs=1e-5)


@given(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)), st.integers(6, 40))
@settings(deadline=None, max_examples=30)
def test_grid_features_tell_all_patches_apart(size, dim):
    features = grid_positions(size, dim)
    assert features.shape == (*size, dim)
    assert features.dtype == torch.float32
    assert features.abs().max() <= 1
    assert (features[..., dim - dim % 6 :] == 0).all()
    flat = features.flatten(0, 2)
    distances = torch.cdist(flat, flat) + 10 * torch.eye(len(flat))
    assert distances.min() > 0.01


def test_the_slowest_cosine_orders_the_cells_of_each_axis():
    features = grid_positions((8, 24, 24), 36)
    for axis in range(3):
        slowest = features[..., 12 * axis + 6].movedim(axis, 0).flatten(1)
        assert (slowest.diff(dim=0) < 0).all()
        assert torch.equal(slowest, slowest[:, :1].expand_as(slowest))


def test_grids_of_all_sizes_share_one_frame_of_reference():
    fine, coarse = grid_positions((9, 3, 3), 60), grid_positions((3, 3, 3), 60)
    torch.testing.assert_close(fine[1::3], coarse, atol=1e-5, rtol=0)  # fp32 angles up to 50


def test_unusable_grids_are_errors():
    with pytest.raises(ValueError, match=r"dim=5 is too small: use at least 6"):
        grid_positions((1, 1, 1), 5)
    with pytest.raises(ValueError, match=r"size=\(1, 0, 1\) has an axis smaller than 1"):
        grid_positions((1, 0, 1), 6)
