import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ppl.modules.poolers.average import AveragePooler
from ppl.modules.poolers.slow_fast import SlowFastPooler
from ppl.modules.poolers.weighted import WeightedPooler


def inputs(*size):
    return torch.randn(*size, 3, dtype=torch.float64), 2 * torch.randn(*size, dtype=torch.float64)


def frame_by_frame(grid, relevance, interval, fine, coarse, edges):
    """Each frame on its own, by torch's average pooling of its tokens times their share of the clip."""
    total = sum(math.exp(score) for score in relevance.flatten().tolist()) if relevance is not None else 1.0
    tokens = []
    for i, frame in enumerate(grid):
        if relevance is not None:
            frame = frame * (relevance[i].exp() / total * relevance.numel())[..., None]
        kernel = fine if i % interval == 0 else coarse
        kernel = [min(k, n) for k, n in zip(kernel, frame.shape, strict=False)]  # torch refuses larger ones
        options = {"ceil_mode": edges == "pad", "count_include_pad": False}
        tokens.append(F.avg_pool2d(frame.movedim(-1, 0), kernel, **options).flatten(1).T)
    return torch.cat(tokens)


@settings(max_examples=50)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(3, 6), st.integers(3, 6)),
    interval=st.integers(1, 5),
    guided=st.booleans(),
    edges=st.sampled_from(["drop", "pad"]),
)
def test_frames_are_pooled_one_by_one_under_one_softmax(size, interval, guided, edges):
    pooler = SlowFastPooler(interval, (2, 1), (3, 3), edges=edges, guided=guided)
    grid, relevance = inputs(*size)
    pooled = pooler(grid, relevance, "video")
    expected = frame_by_frame(grid, relevance if guided else None, interval, (2, 1), (3, 3), edges)
    torch.testing.assert_close(pooled, expected)  # tokens in temporal order
    assert len(pooled) == pooler.num_tokens(size, "video")


def test_counts_by_hand():
    pooler = SlowFastPooler()
    assert pooler.num_tokens((32, 24, 24), "video") == 8 * 12 * 12 + 24 * 6 * 6
    assert pooler.num_tokens((5, 24, 24), "video") == 2 * 144 + 3 * 36
    assert pooler.output_grid((32, 24, 24), "video") is None


def test_a_relevant_coarse_frame_takes_weight_from_the_fine_ones():
    grid, relevance = torch.ones(4, 4, 4, 1), torch.zeros(4, 4, 4)
    relevance[2] = 3.0
    pooled = SlowFastPooler()(grid, relevance, "video").flatten()
    share = 4 / (3 + math.exp(3.0))
    expected = [share] * 4 + [share, share * math.exp(3.0), share]  # 2 x 2 fine tokens, then one per frame
    torch.testing.assert_close(pooled, torch.tensor(expected))


def test_gradients_of_whole_and_broken_runs():
    def pool(grid, relevance):
        return SlowFastPooler(2, (1, 2), (2, 2))(grid, relevance, "video")

    grid = torch.randn(5, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    relevance = torch.randn(5, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, (grid, relevance))


def test_unguided_needs_no_relevance():
    pooler = SlowFastPooler(guided=False)
    assert SlowFastPooler().uses_relevance
    assert not pooler.uses_relevance
    grid, relevance = inputs(2, 5, 6, 6)
    assert torch.equal(pooler(grid, None, "video"), pooler(grid, relevance, "video"))
    assert torch.equal(pooler(grid, None, "image"), AveragePooler()(grid, None, "image"))


@pytest.mark.parametrize("kind", ["image", "multi_image"])
def test_images_are_pooled_as_by_the_weighted_pooler(kind):
    options = {"image_kernel_size": (1, 2, 3), "multi_image_kernel_size": (1, 3, 2), "edges": "pad"}
    slow_fast, weighted = SlowFastPooler(**options), WeightedPooler(**options)
    grid, relevance = inputs(2, 7, 7)
    assert torch.equal(slow_fast(grid, relevance, kind), weighted(grid, relevance, kind))
    assert slow_fast.output_grid((2, 7, 7), kind) == weighted.output_grid((2, 7, 7), kind)


def test_a_kernel_must_fit_only_if_some_frame_is_pooled_with_it():
    pooler = SlowFastPooler(2, (2, 2), (4, 4))
    assert pooler.num_tokens((1, 3, 3), "video") == len(pooler(*inputs(1, 3, 3), "video")) == 1
    with pytest.raises(ValueError, match=r"kernel_size=\(1, 4, 4\) does not fit a grid of \(t, h, w\)=\(2, 3, 3\)"):
        pooler(*inputs(2, 3, 3), "video")


def test_unusable_options_are_errors():
    with pytest.raises(ValueError, match="got interval=0, expected frames from one fine frame to the next: use an int"):
        SlowFastPooler(interval=0)
    with pytest.raises(ValueError, match=r"got image_kernel_size=\(2, 3, 3\), expected 1 as its first"):
        SlowFastPooler(image_kernel_size=(2, 3, 3))
