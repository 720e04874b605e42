import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ppl.functional.density import density_pool3d, density_weights, relevance_density
from ppl.functional.pooling import weighted_pool3d
from tests.functional.geometries import geometries

# Double precision leaves only the order of summation: a few 1e-16 times at most 27 terms.
EXACT = {"atol": 1e-12, "rtol": 1e-12}


@st.composite
def cases(draw):
    size, window, generator = draw(geometries())
    features = torch.randn(*size, 2, generator=generator, dtype=torch.float64)
    relevance = draw(st.sampled_from([0.1, 10.0])) * torch.randn(size, generator=generator, dtype=torch.float64)
    edges = draw(st.sampled_from(["drop", "pad"]))
    return features, relevance, window | {"edges": edges}


def test_density_is_probability_times_tokens():
    relevance = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    density = relevance_density(relevance)
    for clip, logits in zip(density, relevance, strict=True):
        total = sum(math.exp(x) for x in logits.flatten().tolist())
        for place in product(range(3), range(2), range(2)):
            assert clip[place].item() == pytest.approx(12 * math.exp(logits[place].item()) / total, rel=1e-12)


def test_density_has_mean_one_and_full_precision():
    density = relevance_density(30 * torch.randn(2, 4, 5, 6).bfloat16())
    assert density.dtype == torch.float32
    torch.testing.assert_close(density.mean(dim=(-3, -2, -1)), torch.ones(2))
    assert torch.equal(relevance_density(torch.full((2, 2, 2), 7.0)), torch.ones(2, 2, 2))  # a power of two: exact


@given(cases())
@settings(deadline=None, max_examples=25)
def test_pooling_is_torchs_average_of_products(case):
    features, relevance, window = case
    density = relevance_density(relevance)
    products = (features * density[..., None]).movedim(-1, 0)[None]
    torchs = {"kernel_size": window["kernel_size"], "stride": window["stride"], "count_include_pad": False}
    expected = F.avg_pool3d(products, **torchs, ceil_mode=window["edges"] == "pad")[0].movedim(0, -1)
    torch.testing.assert_close(density_pool3d(features, density, **window), expected, **EXACT)


@given(cases())
@settings(deadline=None, max_examples=25)
def test_with_the_density_of_its_own_clip_it_is_eq3(case):
    features, relevance, window = case
    pooled = density_pool3d(features, relevance_density(relevance), **window)
    torch.testing.assert_close(pooled, weighted_pool3d(features, relevance, **window), **EXACT)


def test_a_part_of_a_clip_keeps_its_weights():
    features, relevance = torch.randn(6, 4, 4, 3).double(), 3 * torch.randn(6, 4, 4).double()
    window = {"kernel_size": (1, 2, 2), "stride": (1, 2, 2)}
    part = density_pool3d(features[::2], relevance_density(relevance)[::2], **window)
    torch.testing.assert_close(part, weighted_pool3d(features, relevance, **window)[::2], **EXACT)


@pytest.mark.parametrize("edges", ["drop", "pad"])
def test_only_those_that_count_have_weight_and_number(edges):
    """Windows of two: both count, one, none; and one that is half outside, which counts or does not."""
    density = torch.tensor([2.0, 4.0, 6.0, 8.0, 1.0, 3.0, 5.0]).view(1, 1, 7)
    window = {"kernel_size": (1, 1, 2), "stride": (1, 1, 2), "edges": edges}
    for last in (0.0, 1.0):
        counted = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0, last]).view(1, 1, 7)
        weights = density_weights(density, counted=counted, **window)
        expected = [1.0, 2.0, 0.0, 8.0, 0.5, 0.5] + [5.0 if last else 1.0, 0.0] * (edges == "pad")
        assert weights.flatten().tolist() == expected
    everything = density_weights(density, counted=torch.ones_like(density), **window)
    assert torch.equal(density_weights(density, **window), everything)


def test_gradients_reach_features_and_relevance():
    def pool(features, relevance):
        return density_pool3d(features, relevance_density(relevance), kernel_size=(2, 2, 1), stride=(1, 1, 2))

    features = torch.randn(2, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    relevance = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, (features, relevance))


def test_windows_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match=r"kernel_size=\(2, 2, 2\) does not fit a grid of \(t, h, w\)=\(1, 4, 4\)"):
        density_pool3d(torch.randn(1, 4, 4, 2), torch.ones(1, 4, 4), kernel_size=(2, 2, 2), stride=(2, 2, 2))
