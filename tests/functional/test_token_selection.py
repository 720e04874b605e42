import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.functional.pooling import weighted_pool3d
from ppl.functional.token_selection import keep_and_pool, most_relevant, random_places

EXACT = {"atol": 1e-12, "rtol": 1e-12}  # double precision: only the order of sums differs
sizes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
kernels = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


@given(values=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=12), data=st.data())
@settings(deadline=None, max_examples=60)
def test_the_largest_are_found_and_of_equals_the_first(values, data):
    k = data.draw(st.integers(0, len(values)))
    expected = sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:k])
    assert most_relevant(torch.tensor([values, values]), k).tolist() == [expected, expected]


def test_many_equals_leave_the_first():
    assert torch.equal(most_relevant(torch.zeros(5000), 100), torch.arange(100))


@given(groups=st.integers(1, 4), n=st.integers(1, 30), seed=st.integers(0, 99), data=st.data())
@settings(deadline=None, max_examples=40)
def test_draws_depend_on_their_arguments_alone(groups, n, seed, data):
    keep = data.draw(st.integers(1, n))
    state = torch.get_rng_state()
    places = random_places(groups, n, keep, seed)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(random_places(groups, n, keep, seed), places)
    assert torch.equal(random_places(groups + 1, n, keep, seed)[:groups], places)
    for row in places.tolist():
        assert row == sorted(set(row))
        assert len(row) == keep
        assert 0 <= row[0] <= row[-1] < n


def test_draws_differ_between_groups_and_seeds_and_favour_nobody():
    assert not torch.equal(*random_places(2, 100, 30, 0))
    assert not torch.equal(random_places(1, 100, 30, 0), random_places(1, 100, 30, 1))
    counts = random_places(4000, 10, 3, 0).flatten().bincount()
    # 4000 draws of 3 in 10: 1200 each, with a standard deviation of 29
    assert (counts - 1200).abs().max() < 5 * 29


def loop_keep_and_pool(features, relevance, k, kernel_size):
    """The definition under ``pad``, one token at a time."""
    size = relevance.shape
    tokens = list(product(*map(range, size)))
    kept = sorted(sorted(tokens, key=lambda token: (-relevance[token].item(), token))[:k])
    others = [token for token in tokens if token not in kept]
    total = sum(math.exp(relevance[token].item()) for token in others)
    windows = {}
    for token in tokens:
        windows.setdefault(tuple(i // n for i, n in zip(token, kernel_size, strict=True)), []).append(token)
    pooled = []
    for _, members in sorted(windows.items()):
        free = [token for token in members if token not in kept]
        weights = {token: math.exp(relevance[token].item()) / total * len(others) for token in free}
        terms = [weights[token] * features[token] for token in free] or [features[token] for token in members]
        pooled.append(sum(terms) / len(terms))
    return torch.stack([features[token] for token in kept] + pooled)


@given(size=sizes, kernel_size=kernels, k=st.integers(0, 70), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_agrees_with_the_loop(size, kernel_size, k, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(*size, 3, generator=generator, dtype=torch.float64)
    relevance = 2 * torch.randn(size, generator=generator, dtype=torch.float64).round(decimals=1)  # some are equal
    k = min(k, math.prod(size))
    pooled = keep_and_pool(features, relevance, k, kernel_size=kernel_size, edges="pad")
    expected = loop_keep_and_pool(features, relevance, k, kernel_size)
    assert torch.equal(pooled[:k], expected[:k])
    torch.testing.assert_close(pooled, expected, **EXACT)


def test_none_kept_is_weighted_pooling():
    features, relevance = torch.randn(2, 5, 7, 6, 4).double(), 3 * torch.randn(2, 5, 7, 6).double()
    for edges in ("drop", "pad"):
        pooled = keep_and_pool(features, relevance, 0, kernel_size=(2, 3, 3), edges=edges)
        expected = weighted_pool3d(features, relevance, kernel_size=(2, 3, 3), stride=(2, 3, 3), edges=edges)
        torch.testing.assert_close(pooled, expected.flatten(1, 3), **EXACT)


def test_a_token_that_fills_no_window_may_be_kept():
    features = torch.arange(1.0, 6.0).view(1, 1, 5, 1)
    relevance = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]).view(1, 1, 5)
    pooled = keep_and_pool(features, relevance, 1, kernel_size=(1, 1, 2))
    assert pooled[0].item() == 5.0
    assert pooled[1:].flatten().tolist() == pytest.approx([1.5, 3.5])  # the others are alike


def test_uniform_relevance_gives_plain_averages_of_the_others():
    """The first five of nine are kept: windows of three have none, one and three left."""
    features = torch.arange(9.0).view(1, 1, 9, 1)
    pooled = keep_and_pool(features, torch.full((1, 1, 9), 7.0), 5, kernel_size=(1, 1, 3))
    assert pooled.flatten().tolist() == pytest.approx([0, 1, 2, 3, 4, 1, 5, 7])


@pytest.mark.parametrize(("size", "k", "kernel_size"), [((1, 27, 27), 450, (1, 3, 3)), ((2, 24, 24), 400, (2, 2, 2))])
def test_windows_do_not_fade_beside_what_is_kept(size, k, kernel_size):
    """A bump of relevance so high that the clip's softmax leaves the others nothing; of ones, no window becomes 0."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in size), indexing="ij")
    relevance = -8 * sum(axis.square() for axis in axes)
    pooled = keep_and_pool(torch.ones(*size, 1, dtype=torch.float64), relevance, k, kernel_size=kernel_size)[k:, 0]
    assert (pooled > 0).all()
    counts = torch.ones(relevance.numel()).scatter(0, most_relevant(relevance.flatten(), k), 0.0).view(size)
    counts = torch.nn.functional.avg_pool3d(counts[None], kernel_size)[0].flatten() * math.prod(kernel_size)
    assert counts.eq(0).any()
    torch.testing.assert_close(pooled[counts == 0], torch.ones_like(pooled[counts == 0]), **EXACT)  # plain means
    # What the windows hold is the whole density of those left: their number, and they all have a window.
    torch.testing.assert_close((pooled * counts).sum(), torch.tensor(relevance.numel() - k, dtype=torch.float64))


@pytest.mark.parametrize("k", [0, 11, 12])
def test_gradients_are_finite_however_many_are_kept(k):
    features = torch.randn(2, 3, 2, 2, requires_grad=True)
    relevance = (50 * torch.randn(2, 3, 2)).requires_grad_()
    keep_and_pool(features, relevance, k, kernel_size=(1, 3, 1)).square().sum().backward()
    assert features.grad.isfinite().all()
    assert relevance.grad.isfinite().all()


def test_gradients():
    """Of values as autograd finds them numerically; of relevance as if kept tokens were multiplied by 1 + p - p."""
    features = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    relevance = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)

    def pool(features, relevance):
        return keep_and_pool(features, relevance, 4, kernel_size=(2, 2, 2), edges="pad")

    assert torch.autograd.gradcheck(lambda f: pool(f, relevance), (features,))
    assert torch.autograd.gradcheck(lambda r: pool(features, r)[4:], (relevance,))
    incoming = torch.randn(4, 2, dtype=torch.float64)
    (found,) = torch.autograd.grad((pool(features, relevance)[:4] * incoming).sum(), relevance)
    p = relevance.flatten().softmax(0)
    places = most_relevant(relevance.flatten(), 4)
    signal = (features.flatten(0, 2)[places] * incoming).sum(-1)
    (expected,) = torch.autograd.grad((p[places] * signal.detach()).sum(), relevance)
    torch.testing.assert_close(found, expected, **EXACT)


def test_half_precision_keeps_tokens_bit_for_bit():
    features, relevance = torch.randn(2, 4, 4, 3).bfloat16(), torch.randn(2, 4, 4)
    pooled = keep_and_pool(features, relevance, 5, kernel_size=(1, 2, 2))
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled[:5], features.flatten(0, 2)[most_relevant(relevance.flatten(), 5)])


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"kernel_size=\(3, 1, 1\) does not fit a grid of \(t, h, w\)=\(2, 4, 4\)"):
        keep_and_pool(torch.zeros(2, 4, 4, 3), torch.zeros(2, 4, 4), 1, kernel_size=(3, 1, 1))
