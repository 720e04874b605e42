import math
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.functional.budget import budget_kernel
from ppl.functional.windows import output_size

sizes = st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12))


def num_windows(size, kernel_size):
    return math.prod(output_size(size, kernel_size, kernel_size, "pad"))


def exhaustive(size, budget, frames_may_merge):
    """The rule in the docstring, over every window there is, in fractions."""
    ranks = {}
    for t, h, w in product(*(range(1, n + 1) for n in size)):
        windows = num_windows(size, (t, h, w))
        even = all(-(-n // -(-n // k)) == k for n, k in zip(size[1:], (h, w), strict=True))
        fewest = t == 1 or num_windows(size, (t - 1, h, w)) > budget
        if windows > budget or not even or not fewest or (t > 1 and not frames_may_merge):
            continue
        stretches = [Fraction(t, 2), Fraction(h, 3), Fraction(w, 3)][0 if frames_may_merge else 1 :]
        cost = Fraction(budget, windows) * max(stretches) / min(stretches)
        ranks[t, h, w] = cost, t, abs(h - w), h
    return min(ranks, key=ranks.__getitem__)


@pytest.mark.parametrize("frames_may_merge", [False, True])
@given(size=sizes, budget=st.integers(1, 200))
@settings(deadline=None, max_examples=25)
def test_the_rule_over_all_windows(frames_may_merge, size, budget):
    budget = budget if frames_may_merge else max(budget, size[0])
    kernel_size = budget_kernel(size, budget, frames_may_merge=frames_may_merge)
    assert kernel_size == exhaustive(size, budget, frames_may_merge)
    assert 1 <= num_windows(size, kernel_size) <= budget
    assert frames_may_merge or kernel_size[0] == 1


@pytest.mark.parametrize(
    ("size", "budget", "kernel_size", "windows"),
    [
        ((32, 24, 24), 1024, (2, 3, 3), 1024),  # PPLLaVA's own, and for twice the frames with twice the budget
        ((64, 24, 24), 2048, (2, 3, 3), 2048),
        ((1, 24, 24), 768, (1, 1, 1), 576),
        ((8, 24, 24), 768, (1, 2, 3), 768),
        ((32, 24, 24), 768, (2, 3, 4), 768),
        ((64, 27, 27), 768, (3, 5, 6), 660),
        ((10_800, 24, 24), 768, (15, 24, 24), 720),  # three hours, one frame a second
        ((1_000_000, 24, 24), 1, (1_000_000, 24, 24), 1),
    ],
)
def test_windows_of_real_sizes(size, budget, kernel_size, windows):
    assert budget_kernel(size, budget) == kernel_size
    assert num_windows(size, kernel_size) == windows


def test_views_have_windows_of_their_own():
    assert budget_kernel((5, 24, 24), 432, frames_may_merge=False) == (1, 3, 3)
    assert budget_kernel((5, 24, 24), 5, frames_may_merge=False) == (1, 24, 24)


def test_a_budget_smaller_than_the_views_is_refused():
    with pytest.raises(
        ValueError,
        match=r"got a budget of 4 tokens for an image of 5 views, .* never merged: use a budget of at least 5",
    ):
        budget_kernel((5, 24, 24), 4, frames_may_merge=False)


@pytest.mark.parametrize(("size", "budget"), [((0, 1, 1), 5), ((1, 1, 1), 0)])
def test_nothing_cannot_be_divided(size, budget):
    with pytest.raises(ValueError, match=r"got a grid of .* and a budget of .*, expected integers >= 1"):
        budget_kernel(size, budget)
