import json

import pytest

from ppl.evaluation.benchmarks.llava_bench import LlavaBench, Lmms, Official
from tests.evaluation.made_up_rows import answer, scores
from tests.evaluation.told_judge import ToldJudge


@pytest.fixture
def root(tmp_path):
    def write(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    kinds = ["conv", "detail", "complex"]
    questions = [
        {"question_id": n, "image": "001.jpg", "text": "What?", "category": kind} for n, kind in enumerate(kinds)
    ]
    write("questions.jsonl", questions)
    write("context.jsonl", [{"id": "001", "image": "001.jpg", "caption": ["A lake.", "A hill."]}])
    write("answers_gpt4.jsonl", [{"question_id": n, "text": f"reference {n}"} for n in (2, 1, 0)])
    return tmp_path


def test_items_and_prompts(root):
    item = LlavaBench(str(root)).items()[0]
    assert item.media[0].path == str(root / "images/001.jpg")
    assert (item.answer, item.groups) == ("reference 0", {"category": "conv"})
    assert Lmms().prompt(item, []) == Official().prompt(item, []) == "What?"


def test_the_model_is_compared_with_gpt_4(root):
    judge = ToldJudge("8 4\nWell.", "Scores: 10, 5;", "2 3")
    numbers, report = scores(answer(LlavaBench(str(root)), Lmms(), ["mine", "b", "c"]), judge)
    system, user, _ = judge.asked[0]
    assert system == ""
    assert user.startswith(
        "[Context]\nA lake.\nA hill.\n\n[Question]\nWhat?\n\n[Assistant 1]\nreference 0\n\n[End of Assistant 1]\n\n"
        "[Assistant 2]\nmine\n\n[End of Assistant 2]\n\n[System]\nWe would like to request your feedback"
    )
    assert user.endswith("does not affect your judgment.\n\n")
    assert numbers["rating", "overall"] == pytest.approx(40)
    assert numbers["relative", "overall"] == pytest.approx(100 * 12 / 20)
    assert numbers["relative", "category=complex"] == 150
    assert report.malformed == 0


@pytest.mark.parametrize(
    ("protocol", "relative"),
    [
        (Lmms(), 100 * (4 - 1 + 3) / (8 - 1 + 2)),  # -1 and -1 averaged in
        (Lmms(average_failed=False), 100 * 7 / 10),
        (Official(), 100 * (4 - 1 + 3) / (8 - 1 + 2)),
        (Official(average_failed=False), 100 * 7 / 10),
    ],
)
def test_a_reply_without_ratings_is_counted(root, protocol, relative):
    """lmms-eval 0.7.3, ``tasks/llava-in-the-wild/utils.py``, ``_parse_comparative_scores``: -1 and -1."""
    judge = ToldJudge("8 4", "I would rather not.", "2,3")
    numbers, report = scores(answer(LlavaBench(str(root)), protocol, ["a", "b", "c"]), judge)
    assert numbers["relative", "overall"] == pytest.approx(relative)
    assert report.malformed == 1
    expected = "You are a helpful and precise assistant for checking the quality of the answer."
    assert judge.asked[0].system == (expected if isinstance(protocol, Official) else "")


def test_their_script_wants_two_numbers_and_no_more(root):
    """haotian-liu/LLaVA 181a2f8, ``llava/eval/eval_gpt_review_bench.py``, ``parse_score``."""
    numbers, report = scores(
        answer(LlavaBench(str(root)), Official(average_failed=False), ["a", "b", "c"]),
        ToldJudge("8 4", "Scores: 10 5", "8, 9"),  # a comma and a blank make three words
    )
    assert numbers["relative", "overall"] == 50
    assert report.malformed == 2


@pytest.mark.parametrize("reply", ["nan 5", "inf -inf", f"{'9' * 400} 5"])
def test_ratings_that_no_mean_can_hold_are_none(root, reply):
    for protocol in (Lmms(average_failed=False), Official(average_failed=False)):
        rows = answer(LlavaBench(str(root)), protocol, ["a", "b", "c"])
        numbers, report = scores(rows, ToldJudge("8 4", reply, "2 3"))
        assert numbers["relative", "overall"] == 70
        assert report.malformed == 1


def test_without_a_judge_there_is_no_score(root):
    numbers, report = scores(answer(LlavaBench(str(root)), Lmms(), ["a", "b", "c"]))
    assert numbers["relative", "overall"] is None
    assert report.unjudged == 3
