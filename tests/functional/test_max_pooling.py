import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ppl.functional.max_pooling import select_pool3d, weighted_max_pool3d
from tests.functional.geometries import geometries

OVERLAPPING = {"kernel_size": (2, 2, 2), "stride": (1, 1, 1)}


@st.composite
def cases(draw):
    size, window, generator = draw(geometries())
    features = torch.randn(2, *size, 3, generator=generator, dtype=torch.float64)
    relevance = torch.randn(2, *size, generator=generator, dtype=torch.float64)
    if draw(st.booleans()):
        relevance = relevance.round()  # ties
    edges = draw(st.sampled_from(["drop", "pad"]))
    return features, relevance, window | {"edges": edges}


def windows(size, kernel_size, stride, edges):
    """The places of each window's tokens, windows and tokens in t-major order."""
    last = [extent if edges == "pad" else extent - k + 1 for extent, k in zip(size, kernel_size, strict=True)]
    starts = []
    for extent, k, s, end in zip(size, kernel_size, stride, last, strict=True):
        axis = list(range(0, end, s))
        # under pad, one window beyond the whole ones is enough
        whole = [a for a in axis if a + k <= extent]
        starts.append(whole + [a for a in axis if a + k > extent][: 0 if whole and whole[-1] + k == extent else 1])
    for corner in product(*starts):
        axes = (range(c, min(c + k, extent)) for c, k, extent in zip(corner, kernel_size, size, strict=True))
        yield list(product(*axes))


@given(cases())
@settings(deadline=None, max_examples=50)
def test_selection_is_the_first_of_the_most_relevant(case):
    features, relevance, window = case
    pooled = select_pool3d(features, relevance, **window)
    for clip, scores, result in zip(features, relevance, pooled.flatten(1, 3), strict=True):
        members = list(windows(tuple(scores.shape), **window))
        expected = [
            clip[max(tokens, key=lambda token: scores[token].item())] for tokens in members
        ]  # the first of ties
        assert torch.equal(result, torch.stack(expected))


@given(cases())
@settings(deadline=None, max_examples=25)
def test_gradients_of_selection(case):
    """To features: what each window sent back. To relevance: value times gradient, through its window's softmax."""
    features, relevance, window = case
    features.requires_grad_()
    relevance.requires_grad_()
    pooled = select_pool3d(features, relevance, **window)
    upstream = torch.randn_like(pooled)
    pooled.backward(upstream)
    to_features, to_relevance = torch.zeros_like(features), torch.zeros_like(relevance)
    for clip in range(2):
        scores, sent = relevance[clip].detach(), upstream[clip].flatten(0, 2)
        for grad, tokens in zip(sent, windows(tuple(scores.shape), **window), strict=True):
            exponentials = [math.exp(scores[token].item()) for token in tokens]
            winner = max(range(len(tokens)), key=exponentials.__getitem__)
            to_features[clip][tokens[winner]] += grad
            worth = float(grad @ features[clip][tokens[winner]].detach())
            p = [e / sum(exponentials) for e in exponentials]
            for i, token in enumerate(tokens):
                to_relevance[clip][token] += worth * p[winner] * ((i == winner) - p[i])
    # Double precision: only the order of sums differs.
    torch.testing.assert_close(features.grad, to_features, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(relevance.grad, to_relevance, atol=1e-12, rtol=1e-12)


def test_selection_keeps_half_precision_bits():
    features, relevance = torch.randn(4, 6, 6, 5).bfloat16(), torch.randn(4, 6, 6)
    pooled = select_pool3d(features, relevance, kernel_size=(2, 3, 3), stride=(2, 3, 3))
    rows = {tuple(row) for row in features.view(-1, 5).tolist()}
    assert pooled.dtype == torch.bfloat16
    assert {tuple(row) for row in pooled.view(-1, 5).tolist()} <= rows


@given(cases())
@settings(deadline=None, max_examples=50)
def test_weighted_maximum_is_torchs_of_the_products(case):
    features, weights, window = case  # weights of either sign: absent tokens must not count as 0
    features.requires_grad_()
    weights.requires_grad_()
    torchs = {"kernel_size": window["kernel_size"], "stride": window["stride"], "ceil_mode": window["edges"] == "pad"}
    expected = F.max_pool3d((features * weights[..., None]).movedim(-1, 1), **torchs).movedim(1, -1)
    pooled = weighted_max_pool3d(features, weights, **window)
    assert torch.equal(pooled, expected)
    upstream = torch.randn_like(pooled)
    gradients = torch.autograd.grad(pooled, [features, weights], upstream)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, [features, weights], upstream), strict=True):
        # Double precision: only the order of sums differs.
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("edges", ["drop", "pad"])
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 3, 2)])
def test_gradients_of_the_weighted_maximum(edges, stride):
    def pool(features, weights):
        return weighted_max_pool3d(features, weights, kernel_size=(2, 2, 2), stride=stride, edges=edges)

    features = torch.randn(2, 3, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, (features, weights))


def test_two_tokens_by_hand():
    features = torch.tensor([[1.0, -1.0], [2.0, -4.0]]).view(2, 1, 1, 2)
    weights = torch.tensor([3.0, 0.5]).view(2, 1, 1)
    pooled = weighted_max_pool3d(features, weights, kernel_size=(2, 1, 1), stride=(2, 1, 1))
    assert pooled.flatten().tolist() == [max(3, 1), max(-3, -2)]


def test_equals_send_their_gradient_to_the_first():
    features = torch.ones(2, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    weights = torch.ones(2, 2, 1, dtype=torch.float64)
    weighted_max_pool3d(features, weights, kernel_size=(2, 2, 1), stride=(2, 2, 1)).sum().backward()
    assert features.grad.flatten().tolist() == [1, 0, 0, 0]


def test_windows_of_more_than_256_tokens():
    features = torch.randn(2, 20, 20, 3, requires_grad=True)
    features.data[1, 19, 18] = 10.0  # place 798
    pooled = weighted_max_pool3d(features, torch.ones(2, 20, 20), kernel_size=(2, 20, 20), stride=(2, 20, 20))
    pooled.sum().backward()
    assert pooled.flatten().tolist() == [10.0] * 3
    assert features.grad[1, 19, 18].tolist() == [1.0] * 3
    assert features.grad.sum() == 3


def test_what_is_not_a_number_is_not_hidden():
    features = torch.randn(2, 3, 3, 2)
    features[1, 1, 1, 0] = float("nan")
    pooled = weighted_max_pool3d(features, torch.ones(2, 3, 3), kernel_size=(2, 3, 3), stride=(2, 3, 3))
    assert pooled.isnan().flatten().tolist() == [True, False]


@pytest.mark.parametrize("window", [OVERLAPPING, {"kernel_size": (2, 3, 3), "stride": (2, 3, 3)}])
def test_half_precision_rounds_only_the_result(window):
    features, weights = torch.randn(4, 6, 6, 5).bfloat16().requires_grad_(), torch.rand(4, 6, 6).requires_grad_()
    pooled = weighted_max_pool3d(features, weights, **window)
    exact_features = features.detach().float().requires_grad_()
    exact = weighted_max_pool3d(exact_features, weights, **window)
    assert torch.equal(pooled, exact.bfloat16())
    (to_features,) = torch.autograd.grad(pooled.sum(), features)
    (expected,) = torch.autograd.grad(exact.sum(), exact_features)
    assert torch.equal(to_features, expected.bfloat16())  # overlapping windows add up in fp32 and are rounded once


@pytest.mark.parametrize("pool", [select_pool3d, weighted_max_pool3d])
def test_windows_that_do_not_fit_are_an_error(pool):
    with pytest.raises(ValueError, match=r"kernel_size=\(2, 2, 2\) does not fit a grid of \(t, h, w\)=\(1, 4, 4\)"):
        pool(torch.randn(1, 4, 4, 2), torch.ones(1, 4, 4), kernel_size=(2, 2, 2), stride=(2, 2, 2))


@pytest.mark.parametrize("pool", [select_pool3d, weighted_max_pool3d])
def test_a_stack_of_none_gives_none(pool):
    features, weights = torch.randn(0, 2, 4, 4, 3, requires_grad=True), torch.ones(0, 2, 4, 4, requires_grad=True)
    pooled = pool(features, weights, kernel_size=(2, 2, 2), stride=(2, 2, 2))
    assert pooled.shape == (0, 1, 2, 2, 3)
    pooled.sum().backward()
    assert features.grad.shape == features.shape
