from dataclasses import replace

import pytest

from ppl.evaluation.benchmarks.open_ended import Lmms, Official, OpenEnded, Paper
from ppl.evaluation.judge_prompts import verdict_request
from ppl.evaluation.protocol import Frames
from ppl.evaluation.wordnet import wordnet_at_hand
from tests.evaluation.made_up_rows import FixedJudge, answer, scores, write_json
from tests.evaluation.made_up_wordnet import make_wordnet

QUESTIONS = [
    {"video_name": "x1", "question": "is it red", "question_id": "v_x1_1"},
    {"video_name": "x1", "question": "what color is it", "question_id": "v_x1_2"},
    {"video_name": "x2", "question": "who sings", "question_id": "v_x2_1"},
]
ANSWERS = [
    {"answer": "a man", "question_id": "v_x2_1", "type": 8},
    {"answer": "yes", "question_id": "v_x1_1", "type": 3},
    {"answer": "red", "question_id": "v_x1_2", "type": 4},
]


@pytest.fixture
def anet(tmp_path):
    write_json(tmp_path / "test_q.json", QUESTIONS)
    write_json(tmp_path / "test_a.json", ANSWERS)
    (tmp_path / "all_test").mkdir()
    (tmp_path / "all_test" / "v_x1.webm").touch()
    (tmp_path / "all_test" / "v_x2").mkdir()
    return OpenEnded(str(tmp_path), "activitynetqa", videos="all_test", prefix="v_")


def test_answers_are_matched_by_the_question_and_not_by_their_order(anet, tmp_path):
    items = anet.items()
    assert [(item.id, item.answer) for item in items] == [("v_x1_1", "yes"), ("v_x1_2", "red"), ("v_x2_1", "a man")]
    assert [item.groups["type"] for item in items] == ["yes/no", "color", "other"]
    assert [item.media[0].path for item in items] == [
        str(tmp_path / "all_test" / name) for name in ("v_x1.webm", "v_x1.webm", "v_x2")
    ]
    assert [item.cluster for item in items] == ["x1", "x1", "x2"]
    write_json(tmp_path / "test_a.json", ANSWERS[:2])
    with pytest.raises(ValueError, match=r"with 2 answers to 3 questions, expected one for each question_id"):
        anet.items()


def test_answers_without_ids_are_in_the_questions_order(anet, tmp_path):
    write_json(tmp_path / "test_a.json", [{"answer": text} for text in ("yes", "red", "a man")])
    assert [item.answer for item in anet.items()] == ["yes", "red", "a man"]


def test_ppllava_s_own_files_hold_both(tmp_path):
    write_json(
        tmp_path / "test_qa.json",
        [
            {"video_name": "a.avi", "question": "what is it?", "answer": "cat", "question_id": 1},
            {"video": "b.mp4", "question": "Is it?", "answer": "no", "id": 1},
            {"video_id": 7, "question": "who?", "answer": "man", "question_id": 2},
        ],
    )
    items = OpenEnded(str(tmp_path), "msvdqa", questions="test_qa.json", answers=None).items()
    assert [(item.id, item.answer, item.groups["type"]) for item in items] == [
        *(("1", "cat", "what"), ("1_1", "no", "other"), ("2", "man", "other"))
    ]
    assert [item.media[0].path for item in items] == [
        str(tmp_path / "videos" / name) for name in ("a.avi.mp4", "b.mp4.mp4", "7.mp4")
    ]


def test_prompts(anet):
    item = anet.items()[0]
    assert Paper().prompt(item, []) == (
        "The input consists of a sequence of key frames from a video. Answer the question concisely first and followed "
        "by significant events, characters, or objects that appear throughout the frames. Question: is it red"
    )
    assert Paper().answer_prefix == "Answer: In the video,"
    assert Lmms().prompt(item, []) == "Is it red? Answer the question using a single word or phrase."
    assert Official().prompt(item, []) == "is it red"
    assert {protocol.guide(item) for protocol in (Paper(), Lmms(), Official())} == {"is it red"}
    assert [each.frames(item) for each in (Paper(), Lmms(), Official())] == [
        *(Frames(32, "segments"), Frames(32, "linspace"), Frames(8, "linspace"))
    ]


def test_without_a_judge_the_words_are_compared(anet):
    """yes = yes; "a red car" shares 1 of 2 words (no article) with "red": F1 2/3; "a man" = "the man"."""
    values, report = scores(answer(anet, Paper(), [" yes ", "a red car", "the man"]))
    assert values["accuracy", "overall"] is None
    assert values["exact_match", "overall"] == pytest.approx(200 / 3)
    assert values["token_f1", "overall"] == pytest.approx(100 * (1 + 2 / 3 + 1) / 3)
    assert (report.unjudged, report.malformed) == (3, 0)


def test_wups_stands_beside_a_judge_where_there_is_a_wordnet(anet, tmp_path, monkeypatch):
    """ "cat" is half a "dog", as test_wordnet.py counts; "yes" is right, and "nobody" is no word of the made-up one."""
    rows = answer(anet, Paper(), ["yes", "cat", "nobody"])
    rows[1] = replace(rows[1], answer="dog")
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    wordnet_at_hand.cache_clear()
    assert scores(rows)[0]["wups_0", "overall"] is None
    wordnet_at_hand.cache_clear()
    monkeypatch.setenv("WNSEARCHDIR", str(make_wordnet(tmp_path / "dict")))
    values, _ = scores(rows)
    wordnet_at_hand.cache_clear()
    assert values["wups_0", "overall"] == pytest.approx(100 * (1 + 0.5) / 3)
    assert values["wups_0.9", "overall"] == pytest.approx(100 * (1 + 0.05) / 3)


def test_a_judge_s_verdicts_are_averaged_and_its_slips_counted(anet):
    rows = answer(anet, Paper(), [" yes ", "a red car", "nobody"])
    judge = FixedJudge(["{'pred': 'yes', 'score': 4.8}", "```python\n{'pred': 'no', 'score': 1}\n```", "Well …"])
    values, report = scores(rows, judge)
    assert judge.asked[0] == verdict_request("is it red", "yes", "yes")
    assert (values["accuracy", "overall"], values["score", "overall"]) == (50.0, 2.5)
    assert (report.unjudged, report.malformed, report.judge["model"]) == (0, 1, "fixed")
    whole = answer(anet, Paper(whole_scores=False), ["yes", "a red car", "nobody"])
    assert scores(whole, judge)[0]["score", "overall"] == pytest.approx(2.9)


def test_a_verdict_without_a_score_is_three_in_ppllava_s_code(anet):
    replies = ["{'pred': 'yes'}", "{'pred': 'no', 'score': 1}", None]
    values, report = scores(answer(anet, Paper(), ["a", "b", "c"]), FixedJudge(replies))
    assert (values["score", "overall"], report.unjudged, report.malformed) == (2.0, 1, 0)
    values, report = scores(answer(anet, Paper(missing_score=None), ["a", "b", "c"]), FixedJudge(replies))
    assert (values["score", "overall"], report.unjudged, report.malformed) == (1.0, 1, 1)
