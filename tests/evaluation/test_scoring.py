from dataclasses import replace

import pytest

from ppl.evaluation.judge import Request
from ppl.evaluation.protocol import Mark, Score
from ppl.evaluation.scoring import judge_requests, prompts_digest, score, submission
from tests.evaluation.made_up_runs import Choice, Open, SayingJudge, rows_of


def by_group(report, metric):
    return {each.group: each for each in report.scores if each.metric == metric}


def test_accuracy_by_group_with_coverage_and_unparsed():
    report, units = score(rows_of(["A", "A", "B", "?", "A"], total=10))
    scores = by_group(report, "accuracy")
    assert {group: (each.value, each.size) for group, each in scores.items()} == {
        "overall": (60.0, 5),
        "duration=short": (pytest.approx(200 / 3), 3),
        "duration=long": (50.0, 2),
    }
    assert scores["overall"].low < 60 < scores["overall"].high
    assert (report.answered, report.total, report.coverage, report.unparsed) == (5, 10, 0.5, 1)
    assert (report.judge, report.unjudged, report.malformed) == (None, 0, 0)
    assert [unit.mark.parsed for unit in units] == ["A", "A", "B", None, "A"]


def test_an_argument_of_the_protocol_decides_what_unparsed_answers_count():
    report, _ = score(rows_of(["A", "?"], Choice(strict=False)))
    assert by_group(report, "accuracy")["overall"][2:4] == (100.0, 1)
    assert report.unparsed == 1


def test_intervals_are_of_whole_videos():
    """Both answers about each video are alike: they tell no more than one of them."""
    twice = score(rows_of(["A", "A", "B", "B"] * 10))[0].scores[0]
    alone = score([row for row in rows_of(["A", "A", "B", "B"] * 10) if int(row.id) % 2 == 0])[0].scores[0]
    assert (twice.low, twice.high) == pytest.approx((alone.low, alone.high))


def test_a_judge_s_replies_are_counted_and_never_nought_in_silence():
    rows = rows_of(["x", "y", "x y", "z"], Open(), answers="x")
    judge = SayingJudge("{'pred': 'yes', 'score': 5}", "{'pred': 'no', 'score': 1}", "I would say yes.", None)
    report, units = score(rows, judge)
    assert by_group(report, "judged")["overall"][2:4] == (50.0, 2)
    assert by_group(report, "score")["overall"][2:4] == (3.0, 2)
    assert by_group(report, "f1")["overall"][2:4] == (pytest.approx(100 * (1 + 2 / 3) / 4), 4)
    assert by_group(report, "units")["overall"].value == 4
    assert (report.unparsed, report.unjudged, report.malformed) == (0, 1, 1)
    assert report.judge == {"model": "sayer", "temperature": 0.0, "prompts": prompts_digest(Open(), units)}
    assert units[2].replies == ("I would say yes.",)


def test_without_a_judge_what_needs_none_is_scored():
    report, _ = score(rows_of(["x", "y"], Open(), answers="x"))
    assert by_group(report, "judged")["overall"][2:] == (None, 0, None, None)
    assert by_group(report, "f1")["overall"].value == 50.0
    assert (report.judge, report.unjudged, report.malformed, report.unparsed) == (None, 2, 0, 0)


class OtherWords(Open):
    def requests(self, rows):
        return tuple(each._replace(system="Judge kindly.") for each in super().requests(rows))


def test_the_digest_of_a_judge_s_prompts_is_of_their_words_and_not_of_the_answers():
    digests = {
        score(rows_of(texts, protocol, answers="x"), SayingJudge(*[None] * len(texts)))[0].judge["prompts"]
        for texts, protocol in ((["x", "y"], Open()), (["other"], Open()), (["x", "y"], OtherWords()))
    }
    assert len(digests) == 2


def test_what_a_judge_would_be_asked_is_known_without_one():
    rows = rows_of(["x", "y"], Open(), answers="x")
    assert [request.user for request in judge_requests([*rows, *rows])] == ["q0? x x", "q1? x y"]
    assert judge_requests(rows_of(["A"])) == []


def test_a_submission_is_the_protocol_s():
    assert submission(rows_of(["A", "so B"], answers=None)) == {"made_up.json": '{"0": "A", "1": "B"}'}
    assert submission(rows_of(["A"])) == {}


def test_a_test_split_has_no_score_and_says_so():
    report, _ = score(rows_of(["A", "?"], answers=None))
    assert report.scores[0][2:] == (None, 0, None, None)
    assert (report.answered, report.unparsed) == (2, 1)


def test_runs_are_not_mixed():
    with pytest.raises(ValueError, match=r"got no answered question"):
        score([])
    with pytest.raises(
        ValueError, match=r"got answers of 2 runs \(made-up of m; other of m\), expected the shards of one"
    ):
        score([rows_of(["A"], model="m")[0], rows_of(["A", "A"], model="m", benchmark="other")[1]])
    with pytest.raises(ValueError, match=r"got two answers to question '0'"):
        score([*rows_of(["A"]), *rows_of(["B"])])
    with pytest.raises(ValueError, match=r"got answers of 2 runs"):  # though both say the same
        score([*rows_of(["A"], model="m"), *rows_of(["A"], model="n")])


def test_answers_to_prompts_that_have_changed_since_are_refused(monkeypatch):
    rows = rows_of(["A"])
    monkeypatch.setattr(Choice, "version", "2")
    with pytest.raises(ValueError, match=r"got answers of Choice 1, expected its present version 2: .*answer again"):
        score(rows)


class ByFact(Choice):
    """Reads groups and facts in each of a protocol's steps."""

    def units(self, rows):
        return super().units(sorted(rows, key=lambda row: row.facts.get("place", 0)))

    def requests(self, rows):
        return (Request("", rows[0].facts["context"].strip()),)

    def mark(self, rows, replies):
        return Mark({"accuracy": float(rows[0].facts["rotations"] > 1)}, "read")

    def extra_scores(self, units):
        return [Score("of", unit.rows[0].groups["task"], 1.0, 1) for unit in units]

    def submission(self, rows):
        return {row.facts["file"]: row.text for row in rows}


FACTS = {"place": 1, "context": "c", "rotations": 2, "file": "f"}


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"place": "1"}, r"got 2 answers of made-up .*TypeError: '<' not supported"),
        ({"context": None}, r"got the answer to question '1' of made-up .*AttributeError: 'NoneType'"),
        ({"rotations": "2"}, r"got the answer to question '1' of made-up .*TypeError: '>' not supported"),
    ],
)
def test_facts_that_a_protocol_cannot_read_are_told_with_the_question(facts, told):
    first, second = rows_of(["A", "A"], ByFact())
    rows = [replace(first, facts=FACTS), replace(second, facts=FACTS | facts)]
    with pytest.raises(ValueError, match=told):
        score(rows)
    if "rotations" not in facts:
        with pytest.raises(ValueError, match=told):
            judge_requests(rows)


def test_facts_and_groups_that_are_not_there_are_told_with_those_that_are():
    rows = [replace(row, facts=FACTS) for row in rows_of(["A", "A"], ByFact())]
    with pytest.raises(ValueError, match=r"got 2 answers .* with groups \['duration'\] and .* \(KeyError: 'task'\)"):
        score(rows)
    short = [replace(row, facts={"place": 1}) for row in rows]
    expected = (
        r"facts \['place'\], in which protocol official does not find what it reads \(KeyError: 'file'\), expected"
    )
    with pytest.raises(ValueError, match=expected):
        submission(short)
