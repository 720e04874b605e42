import inspect

import pytest
import torch
from torch.nn import functional as F

from ppl.modules.poolers.max import MaxPooler

SIZE = (4, 6, 6)


def inputs():
    return torch.randn(2, *SIZE, 5), 3 * torch.randn(2, *SIZE)


@pytest.mark.parametrize("mode", ["select", "elementwise"])
def test_the_papers_count(mode):
    assert MaxPooler(mode=mode).num_tokens((32, 24, 24), "video") == 1024


def test_selection_takes_the_tokens_where_torch_finds_the_maxima_of_relevance():
    grid, relevance = inputs()
    _, best = F.max_pool3d(relevance[:, None], (2, 3, 3), return_indices=True)
    expected = torch.stack([clip.flatten(0, 2)[rows.flatten()] for clip, rows in zip(grid, best, strict=True)])
    assert torch.equal(MaxPooler()(grid, relevance, "video"), expected)


@pytest.mark.parametrize("kind", ["video", "image"])
def test_elementwise_is_torchs_maximum_of_rescaled_tokens(kind):
    grid, relevance = inputs()
    pooled = MaxPooler(mode="elementwise")(grid, relevance, kind)
    density = relevance.flatten(1).softmax(-1).view_as(relevance) * 144
    kernel_size = (2, 3, 3) if kind == "video" else (1, 3, 3)
    expected = F.max_pool3d((grid * density[..., None]).movedim(-1, 1), kernel_size).flatten(2).movedim(1, -1)
    torch.testing.assert_close(pooled, expected)


@pytest.mark.parametrize("edges", ["drop", "pad"])
def test_elementwise_of_uniform_relevance_is_ordinary_max_pooling(edges):
    grid = torch.randn(5, 7, 7, 3, dtype=torch.float64)
    pooled = MaxPooler(mode="elementwise", edges=edges)(grid, torch.zeros(5, 7, 7, dtype=torch.float64), "video")
    expected = F.max_pool3d(grid.movedim(-1, 0), (2, 3, 3), ceil_mode=edges == "pad").flatten(1).movedim(0, -1)
    torch.testing.assert_close(pooled, expected)


def test_elementwise_keeps_what_every_pooler_promises():
    """The shared tests know a pooler as it comes: here are those on values that another mode changes."""
    pooler = MaxPooler(mode="elementwise", kernel_size=(2, 2, 3), stride=(1, 3, 2), edges="pad")
    grid, relevance = (tensor.requires_grad_() for tensor in inputs())
    pooled = pooler(grid, relevance, "video")
    assert pooled.shape == (2, pooler.num_tokens(SIZE, "video"), 5)
    assert torch.equal(pooled, pooler(grid, relevance, "video"))
    torch.testing.assert_close(pooled[1], pooler(grid[1], relevance[1], "video"))
    pooled.square().sum().backward()
    assert bool(relevance.grad.any())
    half = pooler(grid.bfloat16(), relevance.bfloat16(), "video")
    exact = pooler(grid.bfloat16().double(), relevance.bfloat16().double(), "video")
    torch.testing.assert_close(half.double(), exact, atol=1e-5, rtol=2**-8)  # one rounding, to 8 bits


def test_an_unknown_mode_is_an_error():
    unchecked = inspect.unwrap(MaxPooler.__init__)  # the type checker of the tests would complain first
    with pytest.raises(ValueError, match=r"mode='mean' is unknown: use one of \('select', 'elementwise'\)"):
        unchecked(MaxPooler.__new__(MaxPooler), mode="mean")
