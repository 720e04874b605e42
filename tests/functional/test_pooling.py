import inspect
import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ppl.functional.pooling import average_pool3d, weighted_pool3d, window_weights
from tests.functional.geometries import geometries

NORMALIZATIONS = ["eq3", "window", "official"]
WINDOWS = [  # kernel_size, stride: apart, overlapping, with gaps
    ((2, 3, 3), (2, 3, 3)),
    ((2, 3, 2), (1, 2, 1)),
    ((1, 2, 2), (2, 3, 4)),
]
# Double precision leaves only the order of summation: a few 1e-16 times at most 27 terms.
EXACT = {"atol": 1e-12, "rtol": 1e-12}


@st.composite
def cases(draw):
    size, window, generator = draw(geometries())
    features = torch.randn(*size, 2, generator=generator, dtype=torch.float64)
    relevance = draw(st.sampled_from([0.1, 1.0, 10.0])) * torch.randn(size, generator=generator, dtype=torch.float64)
    return features, relevance, window


def windows(size, kernel_size, stride):
    """Each window as (its place in the output, the places of its tokens)."""
    starts = [range(0, extent - k + 1, s) for extent, k, s in zip(size, kernel_size, stride, strict=True)]
    for corner in product(*starts):
        place = tuple(c // s for c, s in zip(corner, stride, strict=True))
        yield place, list(product(*(range(c, c + k) for c, k in zip(corner, kernel_size, strict=True))))


def softmax(values):
    exponentials = [math.exp(v - max(values)) for v in values]
    return [e / sum(exponentials) for e in exponentials]


def loop_pool(features, relevance, kernel_size, stride, normalization, temperature):
    """The definitions, one number at a time."""
    size = tuple(relevance.shape)
    tokens = list(product(*map(range, size)))
    clip = dict(zip(tokens, softmax([relevance[token].item() for token in tokens]), strict=True))
    pooled = {}
    for place, members in windows(size, kernel_size, stride):
        if normalization == "eq3":
            weights = [clip[token] * len(tokens) / len(members) for token in members]
        elif normalization == "window":
            weights = softmax([relevance[token].item() for token in members])
        else:
            weights = softmax([clip[token] / temperature for token in members])
        pooled[place] = sum(weight * features[token] for weight, token in zip(weights, members, strict=True))
    shape = [1 + max(axis) for axis in zip(*pooled, strict=True)]
    return torch.stack([pooled[place] for place in product(*map(range, shape))]).view(*shape, -1)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize(("kernel_size", "stride"), WINDOWS)
@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_agrees_with_the_triple_loop(normalization, kernel_size, stride, temperature):
    features, relevance = torch.randn(5, 7, 6, 4).double(), 3 * torch.randn(5, 7, 6).double()
    window = {"kernel_size": kernel_size, "stride": stride}
    pooled = weighted_pool3d(features, relevance, **window, normalization=normalization, temperature=temperature)
    expected = loop_pool(features, relevance, kernel_size, stride, normalization, temperature)
    torch.testing.assert_close(pooled, expected, **EXACT)


def test_two_tokens_by_hand():
    features = torch.tensor([1.0, 5.0]).view(2, 1, 1, 1)
    relevance = torch.tensor([0.0, math.log(3)]).view(2, 1, 1)  # the clip's softmax: 1/4, 3/4
    window = {"kernel_size": (2, 1, 1), "stride": (2, 1, 1)}
    for normalization, expected in [
        ("eq3", 1 / 4 + 5 * 3 / 4),
        ("window", 1 / 4 + 5 * 3 / 4),
        ("official", (1 + 5 * math.exp(0.5 / 0.25)) / (1 + math.exp(0.5 / 0.25))),
    ]:
        pooled = weighted_pool3d(features, relevance, **window, normalization=normalization, temperature=0.25)
        assert pooled.item() == pytest.approx(expected, rel=1e-6)


def test_eq3_keeps_the_contrast_between_windows_and_the_others_do_not():
    features = torch.ones(2, 1, 1, 1)
    relevance = torch.tensor([0.0, math.log(3)]).view(2, 1, 1)
    window = {"kernel_size": (1, 1, 1), "stride": (1, 1, 1)}
    assert weighted_pool3d(features, relevance, **window).flatten().tolist() == pytest.approx([0.5, 1.5])
    for normalization in ["window", "official"]:
        pooled = weighted_pool3d(features, relevance, **window, normalization=normalization)
        assert pooled.flatten().tolist() == [1, 1]


@given(cases())
@settings(deadline=None, max_examples=40)
def test_average_pooling_is_torchs(case):
    features, _, window = case
    expected = F.avg_pool3d(features.movedim(-1, 0)[None], **window)[0].movedim(0, -1)
    torch.testing.assert_close(average_pool3d(features, **window), expected, **EXACT)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@given(case=cases(), constant=st.floats(-50, 50))
@settings(deadline=None, max_examples=25)
def test_uniform_relevance_is_average_pooling(normalization, case, constant):
    features, relevance, window = case
    uniform = torch.full_like(relevance, constant)
    pooled = weighted_pool3d(features, uniform, **window, normalization=normalization)
    expected = F.avg_pool3d(features.movedim(-1, 0)[None], **window)[0].movedim(0, -1)
    torch.testing.assert_close(pooled, expected, **EXACT)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@given(case=cases(), constant=st.floats(-50, 50))
@settings(deadline=None, max_examples=25)
def test_a_constant_added_to_the_relevance_changes_nothing(normalization, case, constant):
    features, relevance, window = case
    # the sum rounds relevance to about 1e-14, and 1 / temperature magnifies that a hundredfold
    torch.testing.assert_close(
        weighted_pool3d(features, relevance + constant, **window, normalization=normalization),
        weighted_pool3d(features, relevance, **window, normalization=normalization),
        atol=1e-10,
        rtol=1e-10,
    )


@pytest.mark.parametrize("normalization", ["window", "official"])
@given(case=cases())
@settings(deadline=None, max_examples=25)
def test_a_weighted_mean_stays_between_the_windows_extremes(normalization, case):
    features, relevance, window = case
    pooled = weighted_pool3d(features, relevance, **window, normalization=normalization)
    channels_first = features.movedim(-1, 0)[None]
    highest = F.max_pool3d(channels_first, **window)[0].movedim(0, -1)
    lowest = -F.max_pool3d(-channels_first, **window)[0].movedim(0, -1)
    assert (pooled <= highest + 1e-12).all()
    assert (pooled >= lowest - 1e-12).all()


@given(cases())
@settings(deadline=None, max_examples=40)
def test_official_picks_the_most_relevant_token_as_the_temperature_vanishes(case):
    features, _, window = case
    # ranks, shuffled: neighbouring probabilities differ by a factor of e, so none underflows the difference
    generator = torch.Generator().manual_seed(features.numel())
    size = tuple(features.shape[:3])
    relevance = torch.randperm(math.prod(size), generator=generator).double().view(size) / 4
    pooled = weighted_pool3d(features, relevance, **window, normalization="official", temperature=1e-30)
    for place, members in windows(size, **window):
        best = max(members, key=lambda token: relevance[token].item())
        torch.testing.assert_close(pooled[place], features[best], **EXACT)


def test_official_is_average_pooling_as_the_temperature_grows():
    features, relevance = torch.randn(4, 6, 6, 3).double(), torch.randn(4, 6, 6).double()
    window = {"kernel_size": (2, 3, 3), "stride": (2, 3, 3)}
    pooled = weighted_pool3d(features, relevance, **window, normalization="official", temperature=1e12)
    torch.testing.assert_close(pooled, average_pool3d(features, **window), atol=1e-10, rtol=0)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize(("kernel_size", "stride"), WINDOWS)
def test_a_batch_is_pooled_clip_by_clip(normalization, kernel_size, stride):
    features, relevance = torch.randn(2, 3, 4, 5, 6, 2), torch.randn(2, 3, 4, 5, 6)
    window = {"kernel_size": kernel_size, "stride": stride}
    pooled = weighted_pool3d(features, relevance, **window, normalization=normalization)
    averaged = average_pool3d(features, **window)
    for i, j in product(range(2), range(3)):
        alone = weighted_pool3d(features[i, j], relevance[i, j], **window, normalization=normalization)
        torch.testing.assert_close(pooled[i, j], alone)
        torch.testing.assert_close(averaged[i, j], average_pool3d(features[i, j], **window))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize(("kernel_size", "stride"), [((2, 2, 2), (2, 2, 2)), ((2, 2, 1), (1, 1, 2))])
def test_gradients_reach_features_and_relevance(normalization, kernel_size, stride):
    def pool(features, relevance):
        window = {"kernel_size": kernel_size, "stride": stride}
        return weighted_pool3d(features, relevance, **window, normalization=normalization, temperature=0.1)

    features = torch.randn(2, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    relevance = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, (features, relevance))
    pool(features, relevance).square().sum().backward()
    assert features.grad.abs().sum() > 0
    assert relevance.grad.abs().sum() > 0


def test_gradient_of_average_pooling():
    features = torch.randn(2, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: average_pool3d(f, kernel_size=(2, 2, 3), stride=(1, 1, 1)), (features,))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_half_precision_rounds_only_the_result(normalization):
    features, relevance = torch.randn(4, 6, 6, 8).bfloat16(), torch.randn(4, 6, 6).bfloat16()
    window = {"kernel_size": (2, 3, 3), "stride": (2, 3, 3)}
    pooled = weighted_pool3d(features, relevance, **window, normalization=normalization)
    expected = weighted_pool3d(features.float(), relevance.float(), **window, normalization=normalization)
    averaged = average_pool3d(features, **window)
    assert pooled.dtype == averaged.dtype == torch.bfloat16
    # bf16 keeps 8 bits: one rounding is at most 2**-8 of the value
    torch.testing.assert_close(pooled.float(), expected, rtol=2**-8, atol=1e-6)
    torch.testing.assert_close(averaged.float(), average_pool3d(features.float(), **window), rtol=2**-8, atol=1e-6)


def test_half_precision_gradients_have_the_dtype_of_their_inputs():
    features = torch.randn(2, 3, 3, 4).bfloat16().requires_grad_()
    relevance = torch.randn(2, 3, 3).requires_grad_()
    weighted_pool3d(features, relevance, kernel_size=(2, 3, 3), stride=(2, 3, 3)).sum().backward()
    assert features.grad.dtype == torch.bfloat16
    assert relevance.grad.dtype == torch.float32


def test_leaves_its_inputs_alone():
    features, relevance = torch.randn(2, 3, 3, 4), torch.randn(2, 3, 3)
    before = features.clone(), relevance.clone()
    weighted_pool3d(features, relevance, kernel_size=(1, 1, 1), stride=(1, 1, 1))
    assert torch.equal(features, before[0])
    assert torch.equal(relevance, before[1])


def test_a_kernel_larger_than_the_clip_is_an_error():
    features, relevance = torch.randn(1, 4, 4, 2), torch.randn(1, 4, 4)
    window = {"kernel_size": (2, 2, 2), "stride": (2, 2, 2)}
    message = r"kernel_size=\(2, 2, 2\) does not fit a grid of \(t, h, w\)=\(1, 4, 4\): .* or more frames"
    with pytest.raises(ValueError, match=message):
        weighted_pool3d(features, relevance, **window)
    with pytest.raises(ValueError, match=message):
        average_pool3d(features, **window)


def test_unusable_options_are_errors():
    arguments = {"features": torch.randn(1, 1, 1, 2), "relevance": torch.randn(1, 1, 1)}
    window = {"kernel_size": (1, 1, 1), "stride": (1, 1, 1)}
    with pytest.raises(ValueError, match=r"temperature=0.0 is not positive: use a number > 0"):
        weighted_pool3d(**arguments, **window, normalization="official", temperature=0.0)
    unchecked = inspect.unwrap(window_weights)  # the type checker of the tests would complain first
    with pytest.raises(
        ValueError, match=r"normalization='mean' is unknown: use one of \('eq3', 'window', 'official'\)"
    ):
        unchecked(arguments["relevance"], **window, normalization="mean")


@given(case=cases(), edges=st.sampled_from(["drop", "pad"]))
@settings(deadline=None, max_examples=40)
def test_padded_windows_average_what_they_have(case, edges):
    features, _, window = case
    ceil = edges == "pad"
    expected = F.avg_pool3d(features.movedim(-1, 0)[None], **window, ceil_mode=ceil, count_include_pad=False)[0]
    torch.testing.assert_close(average_pool3d(features, **window, edges=edges), expected.movedim(0, -1), **EXACT)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@given(case=cases())
@settings(deadline=None, max_examples=25)
def test_padding_leaves_whole_windows_as_they_are_and_uniform_relevance_average_pooling(normalization, case):
    features, relevance, window = case
    options = {**window, "normalization": normalization}
    dropped, padded = (weighted_pool3d(features, relevance, **options, edges=edges) for edges in ("drop", "pad"))
    t, h, w = dropped.shape[:3]
    torch.testing.assert_close(padded[:t, :h, :w], dropped, **EXACT)
    uniform = weighted_pool3d(features, torch.zeros_like(relevance), **options, edges="pad")
    torch.testing.assert_close(uniform, average_pool3d(features, **window, edges="pad"), **EXACT)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradients_of_padded_windows(normalization):
    def pool(features, relevance):
        window = {"kernel_size": (2, 2, 2), "stride": (2, 1, 2), "edges": "pad"}
        return weighted_pool3d(features, relevance, **window, normalization=normalization, temperature=0.1)

    features = torch.randn(3, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    relevance = torch.randn(3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, (features, relevance))
