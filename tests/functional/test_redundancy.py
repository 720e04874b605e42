"""Certificates against numbers counted by hand and loops over frames."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.functional.redundancy import certificate, frame_similarity, relative_similarity, relevant_frames


@st.composite
def similarities(draw):
    texts, frames = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    return 2 * torch.rand(texts, frames, generator=torch.Generator().manual_seed(draw(st.integers(0, 999)))) - 1


def test_certificates_counted_by_hand():
    similarity = torch.tensor([[0.1, 0.6, 0.7, 0.5], [0.2, 0.2, 0.2, 0.2], [0.9, 0.8, 0.7, 0.6]])
    relevant = relevant_frames(similarity, 0.5)
    assert relevant.sum(dim=1).tolist() == [2, 0, 4], "a frame has to exceed the threshold, not to reach it"
    assert certificate(relevant).tolist() == [0.5, 0.0, 1.0]


@settings(deadline=None, max_examples=25)
@given(similarities(), st.floats(-1, 1, width=32))
def test_certificate_is_the_share_of_a_loop(similarity, threshold):
    found = certificate(relevant_frames(similarity, threshold))
    for row, share in zip(similarity.tolist(), found.tolist(), strict=True):
        assert share == pytest.approx(sum(value > threshold for value in row) / len(row), abs=1e-6)  # fp32


@settings(deadline=None, max_examples=25)
@given(similarities(), st.floats(-1, 1, width=32), st.floats(0, 1, width=32))
def test_a_higher_threshold_never_lengthens_a_certificate(similarity, threshold, more):
    lower, higher = (certificate(relevant_frames(similarity, value)) for value in (threshold, threshold + more))
    assert (higher <= lower).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 99))
def test_similarity_is_the_cosine(texts, frames, seed):
    draw = torch.Generator().manual_seed(seed)
    first, second = 10 * torch.randn(texts, 8, generator=draw), torch.randn(frames, 8, generator=draw)
    found = frame_similarity(first, second)
    for i, one in enumerate(first.tolist()):
        for j, other in enumerate(second.tolist()):
            product = sum(a * b for a, b in zip(one, other, strict=True))
            assert found[i, j].item() == pytest.approx(product / math.hypot(*one) / math.hypot(*other), abs=1e-5)


def test_relative_similarity_by_hand():
    similarity = torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.25, 0.2]])
    expected = torch.tensor([[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]])
    torch.testing.assert_close(relative_similarity(similarity), expected)


@settings(deadline=None, max_examples=25)
@given(similarities())
def test_relative_similarity_spans_zero_to_one_in_the_same_order(similarity):
    relative = relative_similarity(similarity)
    if similarity.shape[1] > 1:
        assert relative.amin(dim=1).tolist() == [0.0] * len(relative)
        assert torch.equal(relative.argsort(dim=1, stable=True), similarity.argsort(dim=1, stable=True))
    assert relative.amax(dim=1).tolist() == [1.0] * len(relative)
    # any scale and offset of the model's cosines cancel; fp32 rounding of values that are 0.1 apart or less
    torch.testing.assert_close(relative_similarity(0.1 * similarity + 0.2), relative, atol=1e-4, rtol=0)


@pytest.mark.parametrize("frames", [[0.25], [0.25, 0.25, 0.25], [0.25, 0.25 + 2e-7, 0.25]])
def test_frames_that_are_alike_are_all_the_most_similar(frames):
    """Rounding must not pick frames of a still picture at random."""
    assert relative_similarity(torch.tensor([frames])).tolist() == [[1.0] * len(frames)]
