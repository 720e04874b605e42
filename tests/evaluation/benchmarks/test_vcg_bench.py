import pytest

from ppl.evaluation.benchmarks.vcg_bench import Lmms, Official, Paper, VCGBench
from ppl.evaluation.protocol import Frames
from tests.evaluation.made_up_rows import FixedJudge, answer, scores, write_json


@pytest.fixture
def benchmark(tmp_path):
    folder = tmp_path / "Benchmarking_QA"
    write_json(folder / "generic_qa.json", [{"video_name": "v1", "Q": "what happens?", "A": "a dog runs"}])
    write_json(folder / "temporal_qa.json", [{"video_name": "v1", "Q": "what is first?", "A": "it sits"}])
    write_json(
        folder / "consistency_qa.json", [{"video_name": "v2", "Q1": "who?", "Q2": "which man?", "A": "the cook"}]
    )
    (tmp_path / "Test_Videos").mkdir()
    (tmp_path / "Test_Videos" / "v2.mkv").touch()
    return VCGBench(str(tmp_path))


TEXTS = ["a dog runs", "it runs", " the cook", "a cook"]


def test_a_pair_is_two_questions(benchmark, tmp_path):
    items = benchmark.items()
    assert [item.id for item in items] == ["generic-0", "temporal-0", "consistency-0-0", "consistency-0-1"]
    assert [item.question for item in items[2:]] == ["who?", "which man?"]
    assert [item.facts for item in items[1:]] == [{}, {"pair": 0, "place": 0}, {"pair": 0, "place": 1}]
    assert [item.media[0].path for item in items[1:3]] == [
        str(tmp_path / "Test_Videos" / name) for name in ("v1.mp4", "v2.mkv")
    ]


def test_prompts_are_the_bare_questions(benchmark):
    item = benchmark.items()[0]
    for protocol in (Official(), Paper(), Lmms()):
        assert protocol.prompt(item, []) == protocol.guide(item) == "what happens?"
        assert protocol.system(item) is None
    assert (
        Paper(system_prompt=True).system(item).startswith("You are Video-ChatGPT, a large vision-language assistant.")
    )
    assert [each.frames(item) for each in (Official(), Paper(), Lmms())] == [
        *(Frames(100, "linspace"), Frames(32, "segments"), Frames(32, "linspace"))
    ]


def test_five_scores_and_their_average_by_hand(benchmark):
    replies = ["{'score': 4.8}", "{''score': 3}", "score: 2", "{'score': 1}", "{'score': 5}"]
    values, report = scores(answer(benchmark, Official(), TEXTS), FixedJudge(replies))
    aspects = ("correctness", "detail", "context", "temporal", "consistency")
    assert [values[aspect, "overall"] for aspect in aspects] == [4.0, 3.0, 2.0, 1.0, 5.0]
    assert values["average", "overall"] == 3.0
    assert (report.malformed, report.unjudged, report.answered, report.total) == (0, 0, 4, 4)
    values, _ = scores(answer(benchmark, Official(whole_scores=False), TEXTS), FixedJudge(replies))
    assert values["average", "overall"] == pytest.approx(3.16)


def test_pairs_are_judged_together_and_ppllava_tells_the_second_question_twice(benchmark):
    for protocol, first in (
        (Official(), "who?"),
        (Paper(second_question_twice=False), "who?"),
        (Paper(), "which man?"),
    ):
        rows = answer(benchmark, protocol, TEXTS)
        judge = FixedJudge(["{'score': 1}"] * 5)
        scores([rows[3], *rows[:3]], judge)  # in any order
        pair = next(request for request in judge.asked if "Question 2" in request.user)
        assert f"Question 1: {first}\nQuestion 2: which man?\nCorrect Answer: the cook\n" in pair.user
        assert "to Question 1: the cook\nPredicted Answer to Question 2: a cook\n" in pair.user
    known = [request for request in judge.asked if "I don't know" in request.user]
    assert len(known) == 1
    assert "factual accuracy" in known[0].user


def test_half_a_pair_and_no_judge_leave_scores_empty(benchmark):
    rows = answer(benchmark, Paper(), TEXTS)
    judge = FixedJudge(["{'score': 2}"] * 4)
    values, report = scores(rows[:3], judge)
    assert (report.answered, report.incomplete) == (2, 1)
    assert ("token_f1", "set=consistency") not in values
    assert values["consistency", "overall"] is None
    assert values["average", "overall"] is None
    values, report = scores(rows)
    assert values["correctness", "overall"] is None
    assert values["token_f1", "set=generic"] == 100.0
    assert values["token_f1", "set=consistency"] == 100.0  # articles do not count
    assert report.unjudged == 3


@pytest.mark.parametrize(("number", "lmms"), [("1e999", 0.0), ("1" + "0" * 400, None)], ids=["infinite", "large"])
def test_a_score_beyond_all_numbers_is_malformed(benchmark, number, lmms):
    """Python has no whole number for the first, which lmms-eval makes 0, and no float for the second."""
    replies = [f"{{'score': {number}}}", *["{'score': 2}"] * 4]
    for protocol, counted in ((Lmms(), lmms), (Official(), None)):
        values, report = scores(answer(benchmark, protocol, TEXTS), FixedJudge(replies))
        assert (values["correctness", "overall"], report.malformed) == (counted, 1)


def test_what_a_judge_says_amiss_is_counted_and_is_zero_for_lmms_alone(benchmark):
    replies = ["```python\n{'score': 4}\n```", "no idea", "{'score': 3}", "{'score': 2}", None]
    values, report = scores(answer(benchmark, Lmms(), TEXTS), FixedJudge(replies))
    assert [values[name, "overall"] for name in ("correctness", "detail", "context")] == [0.0, 0.0, 3.0]
    assert values["consistency", "overall"] is None
    assert (report.malformed, report.unjudged) == (1, 1)
    values, report = scores(answer(benchmark, Lmms(strict_replies=False), TEXTS), FixedJudge(replies))
    assert [values[name, "overall"] for name in ("correctness", "detail", "context")] == [4.0, None, 3.0]
    assert (report.malformed, report.unjudged) == (1, 1)
