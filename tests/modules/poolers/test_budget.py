import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.functional.token_selection import keep_and_pool
from ppl.functional.windows import output_size
from ppl.modules.poolers.budget import BudgetPooler


@pytest.mark.parametrize(
    ("size", "kind", "tokens"),
    [
        ((1, 24, 24), "image", 576),
        ((5, 24, 24), "image", 576),
        ((5, 27, 27), "image", 576),
        ((1, 24, 24), "video", 576),
        ((8, 24, 24), "video", 1024),
        ((32, 24, 24), "video", 1024),
        ((10_800, 24, 24), "video", 1024),  # three hours, one frame a second
    ],
)
def test_any_medium_meets_the_budget(size, kind, tokens):
    pooler = BudgetPooler()
    assert pooler.num_tokens(size, kind) == tokens
    assert pooler(torch.zeros(*size, 1), torch.zeros(size), kind).shape == (tokens, 1)


@pytest.mark.parametrize("kind", ["video", "image", "multi_image"])
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 7)),
    budget=st.integers(9, 60),
    share=st.sampled_from([0.0, 0.1, 0.25, 0.9]),
)
@settings(deadline=None, max_examples=25)
def test_the_budget_is_spent_to_the_last_token(kind, size, budget, share):
    pooler = BudgetPooler(budget, budget, None, share)
    count = pooler.num_tokens(size, kind)
    assert count == min(budget, size[0] * size[1] * size[2])
    assert pooler(torch.randn(*size, 3), torch.randn(size), kind).shape == (count, 3)
    window = pooler.window(size, kind)
    assert kind == "video" or window is None or window[0] == 1


def test_it_is_top_k_over_chosen_windows():
    grid, relevance = torch.randn(8, 6, 6, 4), torch.randn(8, 6, 6)
    pooler = BudgetPooler(budget=64)
    assert pooler.window((8, 6, 6), "video") == (1, 2, 3)  # all 48 windows that three quarters buy
    expected = keep_and_pool(grid, relevance, 64 - 8 * 3 * 2, kernel_size=(1, 2, 3), edges="pad")
    assert torch.equal(pooler(grid, relevance, "video"), expected)


@pytest.mark.parametrize(
    ("size", "budget", "kind", "emptied"), [((1, 27, 27), 576, "image", 85), ((2, 24, 24), 1024, "video", 214)]
)
def test_no_window_fades_or_is_zero_beside_a_bump_of_relevance(size, budget, kind, emptied):
    """Windows of kept patches only are their plain means: 1, of ones. The others share what is left between them."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in size), indexing="ij")
    relevance = -8 * sum(axis.square() for axis in axes)
    pooler = BudgetPooler(budget, budget)
    windows = math.prod(output_size(size, *[pooler.window(size, kind)] * 2, "pad"))
    pooled = pooler(torch.ones(*size, 1), relevance, kind)[budget - windows :, 0]
    assert pooled.min() > 1e-4
    assert pooled.sub(1).abs().lt(1e-6).sum() == emptied  # fp32


def test_a_quarter_and_what_windows_leave_goes_to_relevant_patches():
    """32 frames: 768 windows of (2, 3, 4), so 256 patches; 64 frames: 660 windows of (3, 4, 5), so 364."""
    pooler = BudgetPooler()
    for frames, window, kept in ((32, (2, 3, 4), 256), (64, (3, 4, 5), 364)):
        assert pooler.window((frames, 24, 24), "video") == window
        grid, relevance = torch.randn(frames, 24, 24, 1), torch.randn(frames, 24, 24)
        best = relevance.flatten().topk(kept).indices.sort().values
        assert torch.equal(pooler(grid, relevance, "video")[:kept], grid.flatten(0, 2)[best])


def test_what_fits_is_kept_whole_and_trains_the_aligner():
    grid, relevance = torch.randn(2, 4, 4, 3), torch.randn(2, 4, 4, requires_grad=True)
    pooler = BudgetPooler(32)
    pooled = pooler(grid, relevance, "video")
    assert torch.equal(pooled, grid.flatten(0, 2))
    assert pooler.output_grid((2, 4, 4), "video") == (2, 4, 4)
    assert BudgetPooler(31).output_grid((2, 4, 4), "video") is None
    (found,) = torch.autograd.grad(pooled.square().sum(), relevance)
    probabilities = relevance.flatten().softmax(0)
    (expected,) = torch.autograd.grad((probabilities * 2 * grid.flatten(0, 2).square().sum(1)).sum(), relevance)
    torch.testing.assert_close(found, expected)


def test_every_view_has_a_window_whatever_the_share():
    """Ten tokens less nine tenths would leave one window for five views."""
    pooler = BudgetPooler(image_budget=10, fine_share=0.9)
    assert pooler.window((5, 4, 4), "image") == (1, 4, 4)
    grid, relevance = torch.ones(5, 4, 4, 1), torch.zeros(5, 4, 4)
    torch.testing.assert_close(pooler(grid, relevance, "image"), torch.ones(10, 1))


@pytest.mark.parametrize("kind", ["image", "multi_image"])
def test_a_budget_smaller_than_the_views_is_refused(kind):
    pooler = BudgetPooler(image_budget=4)
    for refused in (pooler.num_tokens, pooler.output_grid, pooler.window):
        with pytest.raises(ValueError, match="got a budget of 4 tokens for an image of 5 views"):
            refused((5, 4, 4), kind)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "got budget=0, expected tokens to spend: use an integer >= 1"),
        ({"image_budget": 0}, "got image_budget=0"),
        ({"multi_image_budget": 0}, "got multi_image_budget=0"),
        ({"fine_share": 1.0}, r"got fine_share=1.0, expected a part of the budget: use a number in \[0, 1\)"),
        ({"fine_share": -0.1}, "got fine_share=-0.1"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BudgetPooler(**options)
