"""Resampling is counted against answers repeated one by one, and against distributions known exactly."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.ablation.bootstrap import count_answers, draw, interval_over_seeds, resample_accuracy
from ppl.ablation.results import Answer


def cell(rights, videos=None, categories=None):
    """Answers to questions numbered from 0; a video each and one category, unless said."""
    videos = videos or range(len(rights))
    categories = categories or ["all"] * len(rights)
    return [
        Answer(str(i), str(v), c, bool(r)) for i, (r, v, c) in enumerate(zip(rights, videos, categories, strict=True))
    ]


def accuracy_by_loop(answers, times):
    """Repeat each video's answers ``times[video]`` times; unweighted mean over the categories that are left."""
    by_category = {}
    for answer in answers:
        for _ in range(times[answer.video]):
            by_category.setdefault(answer.category, []).append(answer.correct)
    return np.mean([np.mean(right) for right in by_category.values()])


@settings(deadline=None, max_examples=25)
@given(
    questions=st.lists(st.tuples(st.sampled_from("uvwx"), st.sampled_from("ab")), min_size=1, max_size=12),
    data=st.data(),
)
def test_resampling_repeats_videos(questions, data):
    """Tolerance: the same sums in another order, 1e-12."""
    rights = st.lists(st.booleans(), min_size=len(questions), max_size=len(questions))
    videos, categories = [v for v, _ in questions], [c for _, c in questions]
    cells = {name: cell(data.draw(rights), videos, categories) for name in ("first", "second")}
    counts = count_answers(cells)
    drawn = draw("videos", len(set(videos)), 20)
    got = resample_accuracy(*counts, drawn)
    for n, answers in enumerate(cells.values()):
        for r in range(20):
            times = dict(zip(sorted(set(videos)), drawn[r].tolist(), strict=True))
            assert got[n, r] == pytest.approx(accuracy_by_loop(answers, times), abs=1e-12)


def test_counts_by_hand():
    answers = cell([1, 0, 1, 1], ["u", "u", "v", "u"], ["a", "a", "b", "b"])
    counts = count_answers({"cell": answers})
    assert counts.asked.tolist() == [[2, 1], [0, 1]]
    assert counts.correct.tolist() == [[[1, 1], [0, 1]]]


@pytest.mark.parametrize(
    "other",
    [
        cell([1, 1]),
        [],
        cell([1, 1, 1], categories=["all", "all", "b"]),
        [*cell([1, 1]), cell([1, 1])[1]],
    ],
    ids=["fewer", "none", "another category", "one twice"],
)
def test_cells_must_answer_the_same_questions(other):
    with pytest.raises(
        ValueError, match=rf"got {len(other)} answers of cell max/1, not to the 3 questions of cell max/0"
    ):
        count_answers({"max/0": cell([0, 1, 0]), "max/1": other})


def test_which_questions_share_a_video_is_the_first_cell_s_word():
    """A row that samples other frames names the same video otherwise."""
    counts = count_answers({"f8": cell([0, 1, 0], [0, 0, 1]), "f4": cell([1, 1, 0], [7, 7, 8])})
    assert counts.asked.tolist() == [[2], [1]]
    assert counts.correct.tolist() == [[[1], [0]], [[2], [0]]]


def test_no_cells_no_counts():
    counts = count_answers({})
    assert counts.asked.shape == (0, 0)
    assert resample_accuracy(*counts, draw("videos", 0, 7)).shape == (0, 7)


def test_a_draw_draws_as_many_as_there_are():
    drawn = draw("videos", 50)
    assert drawn.shape == (1000, 50)
    assert (drawn.sum(axis=1) == 50).all()
    # A thing is drawn Binomial(50, 1/50) times: mean 1, variance 0.98. 1000 draws of it: 4 standard errors are 0.13.
    assert np.abs(drawn.mean(axis=0) - 1).max() < 0.13
    assert drawn.var() == pytest.approx(0.98, abs=0.03)


def test_draws_repeat_and_seeds_are_not_drawn_like_videos():
    assert (draw("videos", 3) == draw("videos", 3)).all()
    assert (draw("videos", 3) != draw("seeds", 3)).any()


@pytest.mark.parametrize(("right", "count"), [(30, 40), (5, 100), (50, 100)])
def test_one_seed_and_one_question_a_video_is_binomial(right, count):
    """Right answers in a resample are Binomial(count, right / count).

    The 2.5 % quantile of 1000 resamples is the true quantile of 2.5 % give or take 4 standard errors of 0.5 %.
    """
    counts = count_answers({"cell": cell([1] * right + [0] * (count - right))})
    interval = interval_over_seeds(resample_accuracy(*counts, draw("videos", count)))
    share = right / count
    below = np.cumsum([comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(count + 1)])
    for end, level in zip(interval, (0.025, 0.975), strict=True):
        low, high = np.searchsorted(below, [level - 0.02, level + 0.02])
        assert low <= round(end * count, 6) <= high


def test_two_seeds_are_drawn():
    """The mean of two draws of {0.2, 0.4} is 0.2, 0.3 or 0.4, with chances 1/4, 1/2, 1/4."""
    low, high = interval_over_seeds(np.array([[0.2], [0.4]]).repeat(1000, axis=1))
    assert (low, high) == (pytest.approx(0.2), pytest.approx(0.4))


def test_one_seed_is_kept():
    values = np.linspace(0, 1, 1001)[None]
    assert interval_over_seeds(values) == (pytest.approx(0.025), pytest.approx(0.975))
