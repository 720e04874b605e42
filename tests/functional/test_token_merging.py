import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.functional import token_merging
from ppl.functional.density import relevance_density
from ppl.functional.token_merging import cluster_means, cluster_tokens

EXACT = {"atol": 1e-12, "rtol": 1e-12}  # double precision leaves the order of sums, of some hundred terms at most


def loop_clusters(tokens, density, frames, per_frame, total, protection):
    """The definition, with clusters as lists of tokens and one number at a time."""
    size = len(tokens) // frames
    clusters = []
    for f in range(frames):
        clusters += loop_merge([[i] for i in range(f * size, (f + 1) * size)], tokens, density, per_frame, protection)
    return loop_merge(clusters, tokens, density, total, protection)


def loop_merge(clusters, tokens, density, target, protection):
    while len(clusters) > target:
        clusters = loop_round(clusters, tokens, density, target, protection)
    return clusters


def loop_round(clusters, tokens, density, target, protection):
    means = [[sum(tokens[i][k] for i in c) / len(c) for k in range(len(tokens[0]))] for c in clusters]
    heard = [sum(density[i] for i in c) if density else 0 for c in clusters]
    edges = []
    for a in range(0, len(clusters), 2):
        cosines = {b: cosine(means[a], means[b]) for b in range(1, len(clusters), 2)}
        partner = max(cosines, key=lambda b: (cosines[b], -b))
        share = heard[a] / max(heard) if density else 0
        edges.append((-(cosines[partner] - protection * share), a, partner))
    merged = {b: list(clusters[b]) for b in range(1, len(clusters), 2)}
    chosen = sorted(edges)[: min(len(clusters) - target, max(1, len(clusters) // 4))]
    for _, a, b in chosen:
        merged[b] += clusters[a]
    alone = [clusters[a] for _, a, _ in edges if a not in {edge[1] for edge in chosen}]
    return sorted((sorted(c) for c in [*merged.values(), *alone]), key=lambda c: c[0])


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def as_lists(clusters):
    return [(clusters == k).nonzero().flatten().tolist() for k in range(int(clusters.max()) + 1)]


sizes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))


def made(size, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(*size, 3, generator=generator, dtype=torch.float64)
    return features, 2 * torch.randn(size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("guided", [False, True])
@given(size=sizes, per_frame=st.integers(1, 8), total=st.integers(1, 20), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=25)
def test_clusters_are_those_of_the_slow_loop(guided, size, per_frame, total, seed):
    features, relevance = made(size, seed)
    density = relevance_density(relevance) if guided else None
    options = {"per_frame": per_frame, "total": total, "protection": 0.8 * guided}
    clusters = cluster_tokens(features, density=density, **options)
    heard = density.flatten().tolist() if density is not None else None
    expected = loop_clusters(features.flatten(0, 2).tolist(), heard, size[0], **options)
    assert as_lists(clusters) == expected
    assert len(expected) == min(total, size[0] * min(per_frame, size[1] * size[2]))


@pytest.mark.parametrize(
    ("frame", "frames", "options"),
    [
        (torch.ones(49, 1), 2, {"per_frame": 20, "total": 7}),
        (torch.ones(16, 1), 4, {"per_frame": 16, "total": 3}),
        (torch.eye(9), 9, {"per_frame": 9, "total": 61}),
    ],
    ids=["equal-tokens", "equal-tokens-across-frames", "equal-frames"],
)
def test_of_equals_the_first_as_in_the_slow_loop(frame, frames, options):
    """Cosines of exactly 1 and 0, so that all that decides is the order; enough of them for a sort to be unstable."""
    side = math.isqrt(len(frame))
    features = frame.double().view(1, side, side, -1).repeat(frames, 1, 1, 1)
    expected = loop_clusters(features.flatten(0, 2).tolist(), None, frames, protection=0.0, **options)
    assert as_lists(cluster_tokens(features, **options)) == expected


def test_parts_of_the_work_are_those_of_the_whole(monkeypatch):
    features, relevance = made((2, 5, 4, 6), 0)
    options = {"per_frame": 7, "total": 9, "density": relevance_density(relevance), "protection": 1.0}
    whole = cluster_tokens(features, **options)
    means = cluster_means(features.flatten(1, 3), whole, 9)
    monkeypatch.setattr(token_merging, "_ENTRIES", 40)
    clusters = cluster_tokens(features, **options)
    assert torch.equal(clusters, whole)
    torch.testing.assert_close(cluster_means(features.flatten(1, 3), clusters, 9), means, **EXACT)


def test_three_tokens_by_hand():
    """The first and last may join the one in the middle; the last is nearer to it, unless the prompt asks about it."""
    features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]).view(1, 1, 3, 2)
    density = torch.tensor([0.3, 0.3, 2.4]).view(1, 1, 3)
    options = {"per_frame": 3, "total": 2}
    assert cluster_tokens(features, **options).tolist() == [0, 1, 1]
    assert cluster_tokens(features, density=density, protection=0.1, **options).tolist() == [0, 1, 1]  # .57 < .7
    assert cluster_tokens(features, density=density, protection=0.3, **options).tolist() == [0, 0, 1]  # .56 > .5


def test_frames_are_merged_apart_before_they_meet():
    """Two tokens, and in the next frame the same two, the other way round."""
    frame = torch.tensor([[1.0, 0.1], [0.1, 1.0]]).view(1, 1, 2, 2)
    features = torch.cat([frame, 2 * frame.flip(2)])
    assert cluster_tokens(features, per_frame=1, total=4).tolist() == [0, 0, 1, 1]
    assert cluster_tokens(features, per_frame=2, total=2).tolist() == [0, 1, 1, 0]


def test_the_protected_are_merged_last():
    features, relevance = made((3, 4, 4), 1)
    asked = [5, 21, 46]
    relevance.view(-1)[asked] += 30
    density = relevance_density(relevance)
    clusters = cluster_tokens(features, per_frame=6, total=9, density=density, protection=2.0)
    assert len({int(clusters[i]) for i in asked}) == 3


def test_no_tokens_are_lost_and_those_that_fit_stay_alone():
    features, _ = made((2, 3, 2, 4), 2)
    for total in (24, 99):
        assert torch.equal(cluster_tokens(features, per_frame=8, total=total), torch.arange(24).expand(2, -1))
    assert torch.equal(cluster_tokens(features, per_frame=8, total=1), torch.zeros(2, 24, dtype=torch.int64))
    clusters = cluster_tokens(features, per_frame=4, total=5)
    sizes = torch.stack([row.bincount(minlength=5) for row in clusters])
    means = cluster_means(features.flatten(1, 3), clusters, 5)
    torch.testing.assert_close((means * sizes[..., None]).sum(1), features.flatten(1, 3).sum(1), **EXACT)
    assert sizes.sum(1).tolist() == [24, 24]


def test_means_of_clusters_by_hand():
    values = torch.tensor([[1.0], [2.0], [3.0], [11.0]])
    clusters = torch.tensor([0, 1, 0, 0])
    assert cluster_means(values, clusters, 2).tolist() == [[5.0], [2.0]]
    assert cluster_means(values, clusters, 2, torch.tensor([3.0, 0.5, 1.0, 0.0])).tolist() == [[2.0], [1.0]]


def test_size_weighted_means_of_rounds_are_the_mean_over_tokens():
    """ToMe averages averages, weighted by their sizes; here tokens are averaged once."""
    values = torch.randn(6, 2, dtype=torch.float64)
    first = (values[0] + values[3] + values[4]) / 3
    expected = (3 * first + 1 * values[1]) / 4
    torch.testing.assert_close(cluster_means(values, torch.tensor([0, 0, 1, 0, 0, 1]), 2)[0], expected, **EXACT)


def test_gradients_of_means():
    values = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 6, dtype=torch.float64, requires_grad=True)
    clusters = torch.tensor([[0, 1, 0, 2, 2, 0], [0, 1, 2, 2, 2, 2]])
    assert torch.autograd.gradcheck(lambda v, w: cluster_means(v, clusters, 3, w), (values, weights))
    assert torch.autograd.gradcheck(lambda v: cluster_means(v, clusters, 3), (values,))


def test_half_precision_is_summed_in_fp32():
    values = torch.randn(300, 4).bfloat16()
    clusters = torch.arange(300) % 2
    expected = torch.stack([values[clusters == k].double().mean(0) for k in (0, 1)])
    means = cluster_means(values, clusters, 2)
    # fp32 sums of 150 terms, then one rounding to 8 bits
    torch.testing.assert_close(means.double(), expected, atol=1e-6, rtol=2**-8)


def test_matching_is_exact_under_autocast():
    """Cosines in bfloat16 would put 13 of these 288 tokens into other clusters."""
    features = torch.randn(8, 1, 6, 6, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        inside = cluster_tokens(features, per_frame=9, total=9)
    assert torch.equal(inside, cluster_tokens(features, per_frame=9, total=9))


def test_tokens_and_densities_of_zero_are_merged_like_others():
    features = torch.zeros(2, 2, 3, 4)
    clusters = cluster_tokens(features, per_frame=2, total=3, density=torch.zeros(2, 2, 3), protection=2.0)
    assert sorted(set(clusters.tolist())) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_frame": 0, "total": 1}, "got per_frame=0, expected at least one cluster"),
        ({"per_frame": 1, "total": 0}, "got total=0, expected at least one cluster"),
        ({"per_frame": 1, "total": 1, "protection": -1.0}, "got protection=-1.0, expected a number >= 0"),
    ],
)
def test_what_cannot_be_merged_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(cluster_tokens)(torch.zeros(1, 1, 2, 3), **options)
