import pytest

from ppl.evaluation.benchmarks.mmvet import Lmms, MMVet, Official
from tests.evaluation.made_up_rows import answer, scores, write_json
from tests.evaluation.told_judge import ToldJudge


@pytest.fixture
def root(tmp_path):
    row = {"imagename": "v1_0.png", "question": "What is x?", "answer": "-1<AND>-5", "imagesource": "web"}
    rows = {"v1_0": {**row, "capability": ["ocr", "math"]}, "v1_1": {**row, "capability": ["ocr"]}}
    write_json(tmp_path / "mm-vet.json", rows)
    return tmp_path


def test_items_and_prompts(root):
    item = MMVet(str(root)).items()[0]
    assert item.media[0].path == str(root / "images/v1_0.png")
    assert item.groups == {"capabilities": "math,ocr"}
    assert Official().prompt(item, []) == Lmms(reason_first=False).prompt(item, []) == "What is x?"
    asked = (
        "First please perform reasoning, and think step by step to provide best answer to the following question: "
        "\n\nWhat is x?"
    )
    assert Lmms().prompt(item, []) == asked


def test_a_judge_goes_on_with_a_table(root):
    judge = ToldJudge("0.5", "1.0 since")
    numbers, report = scores(answer(MMVet(str(root)), Lmms(), ["x = -1", "both"]), judge)
    told = judge.asked[0]
    assert (told.system, told.max_tokens) == ("", 128)
    lines = told.user.split("\n")
    assert lines[0].startswith("Compare the ground truth and prediction from AI models, to give a correctness score")
    assert lines[1:4] == [
        "gpt_query_prompt | Ground truth | Prediction | Correctness",
        "--- | --- | --- | ---",
        "What is x in the equation? | -1 <AND> -5 | x = 3 | 0.0",
    ]
    assert len(lines) == 1 + 2 + 5 + 2 + 2
    assert lines[-2:] == ["", "What is x? | -1 <AND> -5 | x = -1 |"]
    assert numbers["score", "overall"] == 75
    assert numbers["score", "capability=math"] == 50
    assert numbers["score", "capability=ocr"] == 75
    assert ("score", "capability=rec") not in numbers
    assert report.unjudged == report.malformed == 0


@pytest.mark.parametrize(("protocol", "mean"), [(Lmms(), 25), (Lmms(unread_is_zero=False), 50), (Official(), 50)])
@pytest.mark.parametrize("reply", ["I think 1.0", "7", ""])
def test_a_reply_without_a_number_is_counted_and_worth_nothing_or_zero(root, protocol, mean, reply):
    """lmms-eval 0.7.3, ``tasks/mmvet/utils.py``, ``mmvet_process_results``: 0 after its retries."""
    numbers, report = scores(answer(MMVet(str(root)), protocol, ["a", "b"]), ToldJudge(reply, "0.5"))
    assert numbers["score", "overall"] == mean
    assert report.malformed == 1


def test_without_a_judge_there_is_no_score(root):
    numbers, report = scores(answer(MMVet(str(root)), Lmms(), ["a", "b"]))
    assert numbers["score", "overall"] is None
    assert report.unjudged == 2
