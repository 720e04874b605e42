"""Statistics of rows against a loop over repeated answers, and by hand."""

import numpy as np
import pytest

from ppl.ablation.bootstrap import draw
from ppl.ablation.results import CellResult, Row
from ppl.ablation.statistics import summarise
from tests.ablation.fake_ablation import fail_cell, fake_answers, write_cell
from tests.ablation.test_bootstrap import accuracy_by_loop, cell

FIRST, SECOND, CONTROL = Row("first"), Row("second"), Row("control", control=True)


def test_means_and_deviations_by_hand(tmp_path):
    """Category a: 1 and 1/2 right, b: 0 and 1/2; means 1/2 and 1/2."""
    asked = {"videos": "uvwx", "categories": "aabb"}
    results = [
        write_cell(tmp_path, "first", seed, cell(rights, **asked), tokens=16, peak_memory_mib=10.0 * seed,
                   stage_ms={"pool": 1.0 + seed}, seconds={"fit": 60.0 + seed})
        for seed, rights in enumerate([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0]])
    ]  # fmt: skip
    [row] = summarise([FIRST], results, tmp_path)
    assert row.accuracy == (pytest.approx((0.5 + 0.5 + 0.25) / 3), pytest.approx((0.0625 / 3) ** 0.5))
    assert row.categories["a"] == (pytest.approx(2 / 3), pytest.approx((0.25 / 3) ** 0.5))
    assert row.categories["b"] == (pytest.approx(0.5 / 3), pytest.approx((0.25 / 3) ** 0.5))
    assert row.difference is None
    assert (row.tokens, row.peak_memory_mib, row.fit_seconds) == (16, 20.0, 61.0)
    assert (row.stage_ms("pool"), row.stage_ms("decode")) == (2.0, None)


def test_one_seed_has_no_deviation(tmp_path):
    [row] = summarise([FIRST], [write_cell(tmp_path, "first", 0, cell([1, 0]))], tmp_path)
    assert row.accuracy == (0.5, None)
    assert row.categories["all"] == (0.5, None)
    assert row.interval == (0, 1)


def test_intervals_equal_a_loop(tmp_path):
    """Every resample by repeating answers: tolerance 1e-12, the same sums in another order."""
    answers = {(row, seed): fake_answers(0.5 + 0.3 * (row == "first"), 5, 10 * seed) for row in ("first", "second")
               for seed in range(3)}  # fmt: skip
    results = [write_cell(tmp_path, *name, given) for name, given in answers.items()]
    first, second = summarise([FIRST, SECOND], results, tmp_path)
    videos = [f"{video:05}.mp4" for video in range(5)]
    means = {"first": [], "second": []}
    for of_videos, of_seeds in zip(draw("videos", 5).tolist(), draw("seeds", 3).tolist(), strict=True):
        times = dict(zip(videos, of_videos, strict=True))
        for row, found in means.items():
            seeds = [seed for seed, drawn in enumerate(of_seeds) for _ in range(drawn)]
            found.append(np.mean([accuracy_by_loop(answers[row, seed], times) for seed in seeds]))
    difference = np.subtract(means["second"], means["first"])
    assert first.interval == pytest.approx(np.quantile(means["first"], [0.025, 0.975]), abs=1e-12)
    assert second.interval == pytest.approx(np.quantile(means["second"], [0.025, 0.975]), abs=1e-12)
    assert second.difference.interval == pytest.approx(np.quantile(difference, [0.025, 0.975]), abs=1e-12)
    assert second.difference.mean == pytest.approx(second.accuracy.mean - first.accuracy.mean)


def test_more_questions_about_the_same_videos_do_not_narrow_the_interval(tmp_path):
    rights, videos = [1, 0, 1, 1, 0, 0, 1, 1], list(range(8))
    once = write_cell(tmp_path / "once", "first", 0, cell(rights, videos))
    often = write_cell(tmp_path / "often", "first", 0, cell(rights * 10, videos * 10))
    [few], [many] = (summarise([FIRST], [c], tmp_path / d) for c, d in ((once, "once"), (often, "often")))
    assert few.interval == pytest.approx(many.interval)


@pytest.mark.parametrize(("worse", "excluded"), [(0, False), (1, False), (20, True)])
def test_a_difference_is_paired(tmp_path, worse, excluded):
    """The second row answers as the first, but for ``worse`` of the 20 right answers."""
    rights = [1] * 20 + [0] * 20
    results = [
        write_cell(tmp_path, "first", 0, cell(rights)),
        write_cell(tmp_path, "second", 0, cell([0] * worse + rights[worse:])),
    ]
    second = summarise([FIRST, SECOND], results, tmp_path)[1]
    assert second.difference.reference == "first"
    assert second.difference.mean == pytest.approx(-worse / 40)
    assert second.difference.excludes_zero is excluded
    if not worse:
        assert second.difference.interval == (0, 0)


def test_the_reference_is_no_control_and_shares_the_seeds(tmp_path):
    results = [
        write_cell(tmp_path, "control", 0, cell([0, 0])),
        write_cell(tmp_path, "first", 0, cell([1, 1])),
        write_cell(tmp_path, "first", 1, cell([0, 0])),
        write_cell(tmp_path, "second", 2, cell([1, 1])),
    ]
    control, first, second = summarise([CONTROL, FIRST, SECOND], results, tmp_path)
    assert control.difference.reference == "first"
    assert control.difference.mean == -1, "seed 1 has nothing to be compared with"
    assert first.difference is None
    assert second.difference is None


def test_a_control_is_never_the_reference(tmp_path):
    results = [write_cell(tmp_path, "control", 0, cell([0, 1]))]
    assert [row.difference for row in summarise([CONTROL], results, tmp_path)] == [None]


def test_failed_and_missing_cells(tmp_path):
    results = [
        fail_cell(tmp_path, "first", 1, "RuntimeError: no", ""),
        write_cell(tmp_path, "first", 0, cell([1, 0])),
        fail_cell(tmp_path, "second", 0, "RuntimeError: no", ""),
    ]
    first, second, control = summarise([FIRST, SECOND, CONTROL], results, tmp_path)
    assert [c.seed for c in first.finished] == [0]
    assert [c.seed for c in first.failed] == [1]
    assert (second.accuracy, second.interval, second.tokens, second.peak_memory_mib, second.fit_seconds) == (None,) * 5
    assert len(second.failed) == 1
    assert (control.finished, control.failed) == ((), ())


def test_before_the_first_cell(tmp_path):
    assert [row.accuracy for row in summarise([FIRST, CONTROL], [], tmp_path)] == [None, None]


def test_a_rows_interval_does_not_depend_on_other_rows(tmp_path):
    results = [write_cell(tmp_path, row, 0, fake_answers(0.7, 9, i)) for i, row in enumerate(("first", "second"))]
    alone = summarise([SECOND], results[1:], tmp_path)[0]
    assert summarise([FIRST, SECOND], results, tmp_path)[1].interval == alone.interval


def test_results_must_belong_to_rows_once(tmp_path):
    stray = [CellResult("max", 0, "max/0", error="no")]
    with pytest.raises(ValueError, match=r"got results of rows \['max'\] .* of the rows \['first'\]"):
        summarise([FIRST], stray, tmp_path)
    twice = [CellResult("first", 0, "a", error="no"), CellResult("first", 0, "b", error="no")]
    with pytest.raises(ValueError, match=r"several of the cells \[\('first', 0\)\]"):
        summarise([FIRST], twice, tmp_path)


def test_answers_must_give_the_accuracy(tmp_path):
    write_cell(tmp_path, "first", 0, cell([1, 0]))
    wrong = CellResult("first", 0, "first/seed_0", accuracy={"all": 0.75, "mean": 0.75})
    with pytest.raises(ValueError, match=r"0\.7500 for row 'first', seed 0, but .*answers\.jsonl gives 0\.5000.*again"):
        summarise([FIRST], [wrong], tmp_path)
