import math

import pytest
import torch

from ppl.functional.token_merging import cluster_means, cluster_tokens
from ppl.modules.poolers.token_merging import TokenMergingPooler

SIZE = (4, 5, 6)
EXACT = {"atol": 1e-12, "rtol": 1e-12}  # double precision: only the order of sums differs


def inputs(*batch):
    return torch.randn(*batch, *SIZE, 7, dtype=torch.float64), 3 * torch.randn(*batch, *SIZE, dtype=torch.float64)


@pytest.mark.parametrize("frames", [1, 3, 8, 32, 64, 10_800])
def test_the_paper_s_number_of_tokens(frames):
    """PPLLaVA, Table 5: 2048, whatever the video."""
    assert TokenMergingPooler().num_tokens((frames, 24, 24), "video") == min(2048, frames * 576)


@pytest.mark.parametrize("size", [(32, 24, 24), (5, 24, 24)])
def test_a_real_clip_has_that_many(size):
    pooler = TokenMergingPooler()
    assert pooler(torch.randn(*size, 4), None, "video").shape == (pooler.num_tokens(size, "video"), 4)


def test_frames_may_be_many_more_than_tokens():
    grid = torch.randn(300, 2, 2, 3)
    for pooler in (TokenMergingPooler(7), TokenMergingPooler(7, guided=True)):
        assert pooler(grid, torch.randn(300, 2, 2), "video").shape == (7, 3)


@pytest.mark.parametrize("target", [1, 2, 17, 119])
def test_merging_keeps_the_sum_of_all_tokens(target):
    grid, _ = inputs(2)
    clusters = cluster_tokens(grid, per_frame=math.ceil(2 * target / 4), total=target)
    sizes = torch.stack([row.bincount(minlength=target) for row in clusters])
    pooled = TokenMergingPooler(target)(grid, None, "video")
    torch.testing.assert_close((pooled * sizes[..., None]).sum(1), grid.sum((1, 2, 3)), **EXACT)


@pytest.mark.parametrize("kind", ["video", "image", "multi_image"])
def test_what_fits_is_left_as_it_is(kind):
    grid, relevance = inputs()
    pooler = TokenMergingPooler(120, 30)
    assert torch.equal(pooler(grid, None, kind), grid.flatten(0, 2))
    assert pooler.output_grid(SIZE, kind) == SIZE
    assert TokenMergingPooler(119, 29).output_grid(SIZE, kind) is None
    guided = TokenMergingPooler(120, 30, guided=True)(grid, relevance, kind)
    expected = 120 * relevance.flatten().softmax(0)[:, None] * grid.flatten(0, 2)
    torch.testing.assert_close(guided, expected, **EXACT)


def test_views_are_merged_each_alone():
    grid, _ = inputs()
    pooler = TokenMergingPooler(2, 4, 3)
    for kind, count in (("image", 4), ("multi_image", 3)):
        views = [pooler(view[None], None, kind) for view in grid]
        assert [len(view) for view in views] == [count] * 4
        torch.testing.assert_close(pooler(grid, None, kind), torch.cat(views), **EXACT)


def test_uniform_relevance_changes_nothing_but_what_is_merged():
    grid, relevance = inputs()
    uniform = TokenMergingPooler(11, guided=True, protection=0.0)(grid, torch.full_like(relevance, 5.0), "video")
    torch.testing.assert_close(uniform, TokenMergingPooler(11)(grid, None, "video"), **EXACT)


def test_a_cluster_s_scale_says_how_relevant_it_is():
    """Eq. 3 over clusters: probability times tokens of the clip, over tokens of the cluster."""
    grid, relevance = inputs()
    pooled = TokenMergingPooler(11, guided=True)(torch.ones_like(grid), relevance, "video")
    density = 120 * relevance.flatten().softmax(0).view(SIZE)
    clusters = cluster_tokens(torch.ones_like(grid), per_frame=6, total=11, density=density, protection=2.0)
    expected = cluster_means(density.flatten()[:, None], clusters, 11)
    torch.testing.assert_close(pooled, expected.expand(-1, 7), **EXACT)


def test_the_prompt_decides_what_is_merged():
    """Without guidance the tokens asked about drown in the frame they are like; with it each stays a token."""
    grid = torch.ones((*SIZE, 7), dtype=torch.float64) + 0.01 * torch.randn(*SIZE, 7, dtype=torch.float64)
    relevance = torch.zeros(SIZE, dtype=torch.float64)
    relevance[1, 2, 3] = relevance[3, 0, 0] = 20.0
    pooled = TokenMergingPooler(8, guided=True)(grid, relevance, "video")
    for place in ((1, 2, 3), (3, 0, 0)):
        difference = (pooled / pooled.norm(dim=1, keepdim=True) - grid[place] / grid[place].norm()).norm(dim=1)
        assert difference.min() < 1e-7  # what others add has a share of e^-20 = 2e-9


def test_gradients_reach_relevance_as_weights_and_do_not_pass_through_matching():
    grid = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    relevance = torch.randn(2, 3, 2, dtype=torch.float64)
    pooler = TokenMergingPooler(5, guided=True)
    assert torch.autograd.gradcheck(lambda r: pooler(grid, r, "video"), (relevance.requires_grad_(),))
    assert torch.autograd.gradcheck(lambda g: pooler(g, relevance.detach(), "video"), (grid.requires_grad_(),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 0}, "got target=0, expected tokens to keep: use an integer >= 1"),
        ({"image_target": 0}, "got image_target=0"),
        ({"multi_image_target": -1}, "got multi_image_target=-1"),
        ({"protection": -0.5}, "got protection=-0.5, expected a number >= 0; 0 protects nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TokenMergingPooler(**options)
