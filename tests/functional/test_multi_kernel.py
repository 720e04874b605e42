import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.functional.multi_kernel import common_base, multi_kernel_pool3d
from ppl.functional.pooling import weighted_pool3d

NORMALIZATIONS = ["eq3", "window", "official"]
# Double precision leaves only the order of summation: a few 1e-16 times at most 500 terms.
EXACT = {"atol": 1e-11, "rtol": 1e-11}


def tiling(*kernels):
    return [(kernel, kernel) for kernel in kernels]


@st.composite
def tilings(draw):
    """Kernels that are multiples of a base, on a grid that need not be a multiple of anything."""
    base = tuple(draw(st.integers(1, 3)) for _ in range(3))
    kernels = [tuple(draw(st.integers(1, 2)) * b for b in base) for _ in range(draw(st.integers(2, 3)))]
    size = [max(axis) + draw(st.integers(0, 5)) for axis in zip(*kernels, strict=True)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    features = torch.randn(*size, 2, generator=generator, dtype=torch.float64)
    return features, 3 * torch.randn(size, generator=generator, dtype=torch.float64), tiling(*kernels)


def one_by_one(features, relevance, windows, **options):
    pooled = [weighted_pool3d(features, relevance, kernel_size=k, stride=s, **options) for k, s in windows]
    return torch.cat([grid.flatten(-4, -2) for grid in pooled], dim=-2)


@given(tilings())
@settings(deadline=None, max_examples=50)
def test_a_shared_base_changes_nothing(case):
    features, relevance, windows = case
    features.requires_grad_()
    relevance.requires_grad_()
    pooled = multi_kernel_pool3d(features, relevance, windows=windows)
    expected = one_by_one(features, relevance, windows)
    torch.testing.assert_close(pooled, expected, **EXACT)
    upstream = torch.randn_like(pooled)
    gradients = torch.autograd.grad(pooled, [features, relevance], upstream)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, [features, relevance], upstream), strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("edges", ["drop", "pad"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize(
    "windows", [tiling((2, 2, 2), (4, 4, 4)), [((2, 2, 2), (1, 2, 3)), ((1, 3, 3), (2, 4, 4))]], ids=["tiles", "others"]
)
def test_results_are_those_of_each_window_in_the_order_given(windows, normalization, edges):
    features, relevance = torch.randn(2, 5, 7, 6, 3).double(), 3 * torch.randn(2, 5, 7, 6).double()
    options = {"edges": edges, "normalization": normalization}
    pooled = multi_kernel_pool3d(features, relevance, windows=windows, **options)
    torch.testing.assert_close(pooled, one_by_one(features, relevance, windows, **options), **EXACT)
    turned = multi_kernel_pool3d(features, relevance, windows=windows[::-1], **options)
    assert not torch.equal(turned, pooled)
    torch.testing.assert_close(turned, one_by_one(features, relevance, windows[::-1], **options), **EXACT)


@pytest.mark.parametrize(
    ("windows", "base"),
    [
        (tiling((1, 6, 6), (8, 2, 2)), (1, 2, 2)),
        (tiling((4, 3, 3), (2, 4, 4)), None),  # half a clip would be written, and read twice
        (tiling((4, 3, 3), (2, 4, 4), (2, 3, 3)), None),
        (tiling((4, 3, 3), (2, 4, 4), (2, 3, 3), (2, 2, 2)), (2, 1, 1)),  # but four kernels gain
        (tiling((3, 3, 3), (3, 2, 2), (3, 4, 4)), (3, 1, 1)),
        (tiling((4, 6, 6), (8, 3, 9), (12, 6, 3)), (4, 3, 3)),
        (tiling((2, 3, 3), (3, 2, 2)), None),  # nothing in common
        (tiling((2, 3, 3)), None),  # nothing to share with
        ([((2, 2, 2), (1, 2, 2)), ((4, 4, 4), (4, 4, 4))], None),  # overlapping
    ],
)
def test_the_base_is_the_greatest_common_divisor_where_that_saves_work(windows, base):
    assert common_base(windows, "drop") == common_base(windows, "error") == base
    assert common_base(windows, "pad") is None


def test_half_precision_rounds_only_the_result():
    features, relevance = torch.randn(8, 6, 6, 5).bfloat16(), torch.randn(8, 6, 6)
    windows = tiling((1, 6, 6), (8, 2, 2))
    pooled = multi_kernel_pool3d(features, relevance, windows=windows)
    assert pooled.dtype == torch.bfloat16
    # bf16 keeps 8 bits: one rounding is at most 2**-8 of the value, also where the sum nearly cancels
    expected = multi_kernel_pool3d(features.float(), relevance, windows=windows)
    torch.testing.assert_close(pooled.float(), expected, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("windows", [tiling((2, 2, 2), (8, 4, 4)), tiling((8, 4, 4), (2, 2, 2))])
def test_a_window_that_does_not_fit_is_an_error_in_terms_of_the_clip(windows):
    with pytest.raises(ValueError, match=r"kernel_size=\(8, 4, 4\) does not fit a grid of \(t, h, w\)=\(6, 6, 6\)"):
        multi_kernel_pool3d(torch.randn(6, 6, 6, 2), torch.randn(6, 6, 6), windows=windows)
