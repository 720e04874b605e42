import csv

import pytest

from ppl.evaluation.benchmarks.mmbench import Llava, Lmms, MMBench
from tests.evaluation.made_up_rows import answer, scores
from tests.evaluation.told_judge import ToldJudge

NAMES = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "l2-category"]
ROWS = [
    # two rotations of question 7, one of question 8, two of question 9
    [7, "What is it", "Look.", "cat", "dog", "", "", "A", "object", "QUJD", "coarse"],
    [8, "What now", "", "red", "blue", "green", "pink", "D", "colour", "REVG", "coarse"],
    [9, "Why", "nan", "sun", "rain", "", "", "B", "colour", "R0hJ", "fine"],
    [1000007, "What is it", "Look.", "dog", "cat", "", "", "B", "object", "QUJD", "coarse"],
    [2000009, "Why", "", "rain", "sun", "", "", "A", "colour", "9", "fine"],
]
TAIL = "Answer with the option's letter from the given choices directly."


@pytest.fixture
def root(tmp_path):
    for name in ("DEV_EN", "DEV_CN", "TEST_EN", "DEV_EN_V11"):
        with (tmp_path / f"MMBench_{name}.tsv").open("w", newline="") as stream:
            table = csv.writer(stream, delimiter="\t")
            table.writerow(NAMES)
            table.writerows([[*row[:7], "", *row[8:]] for row in ROWS] if "TEST" in name else ROWS)
    return tmp_path


def test_items(root):
    items = MMBench(str(root)).items()
    assert [(item.id, item.cluster) for item in items][-2:] == [("1000007", "7"), ("2000009", "9")]
    assert items[0].options == ("cat", "dog")
    assert items[0].groups == {"category": "object", "l2-category": "coarse"}
    assert items[2].media == items[4].media  # the last one's image is the ninth's
    assert MMBench(str(root), split="test").items()[0].answer is None
    assert MMBench(str(root), revised=True).name == "mmbench-en-dev-v11"


def test_prompts(root):
    first, second, *_ = MMBench(str(root)).items()
    assert Lmms().prompt(first, []) == f"Look. What is it There are several options:\nA. cat\nB. dog\n\n{TAIL}"
    assert Lmms().prompt(second, []).startswith("What now There are several options:\nA. red\n")
    assert Llava().prompt(first, []) == f"Look.\nWhat is it\nA. cat\nB. dog\n{TAIL}"
    chinese = MMBench(str(root), language="cn").items()[0]
    asked = "\nA. cat\nB. dog\n\n请直接使用所提供的选项字母作为答案回答。"
    assert Lmms().prompt(chinese, []) == "Look. What is it There are several options:" + asked
    assert Lmms(english_header=False).prompt(chinese, []) == "Look. What is it 有如下几个选项：" + asked
    assert Lmms(english_header=False).prompt(first, []) == Lmms().prompt(first, [])
    assert Llava().prompt(chinese, []) == "Look.\nWhat is it\nA. cat\nB. dog\n请直接回答选项字母。"


def test_a_question_counts_if_all_its_rotations_are_right(root):
    # 7: both right, one by its words; 8: right; 9: one of two
    numbers, report = scores(answer(MMBench(str(root)), Lmms(), ["A", "D.", "B", "a cat", "B"]))
    assert numbers["accuracy", "overall"] == pytest.approx(200 / 3)
    assert numbers["accuracy", "category=colour"] == 50
    assert numbers["accuracy", "l2-category=fine"] == 0
    assert (report.unparsed, report.answered, report.scores[0].size) == (0, 5, 3)


def test_a_question_that_lacks_a_rotation_is_incomplete(root):
    """Of 7 and 9 a run that was cut off has the first of two: both could be right, and are in no mean."""
    judge = ToldJudge()
    numbers, report = scores(answer(MMBench(str(root)), Lmms(), ["A", "C", "wet?"]), judge)
    assert numbers["accuracy", "overall"] == 0
    assert ("category=object" in {score.group for score in report.scores}, report.scores[0].size) == (False, 1)
    assert (report.answered, report.total, report.incomplete, report.coverage) == (1, 5, 2, 0.2)
    assert judge.asked == []


def test_a_judge_is_asked_where_no_answer_is_wrong_yet(root):
    judge = ToldJudge("B", "E")
    numbers, report = scores(answer(MMBench(str(root)), Lmms(), ["A", "C", "wet?", "B", "moist"]), judge)
    assert [request.user.split("Example 3: \n")[1] for request in judge.asked] == [
        "Question: Why?\nOptions: There are several options: \nA. sun\nB. rain\n\nAnswer: wet?\nYour output: ",
        "Question: Why?\nOptions: There are several options: \nA. rain\nB. sun\n\nAnswer: moist\nYour output: ",
    ]
    assert numbers["accuracy", "overall"] == pytest.approx(100 / 3)  # 7; 8 is wrong; 9's second rotation is E
    assert report.unjudged == 0


def test_without_a_judge_what_needs_one_does_not_count(root):
    numbers, report = scores(answer(MMBench(str(root)), Lmms(), ["feline", "D", "B", "B", "A"]))
    assert numbers["accuracy", "overall"] == 100
    assert (report.scores[0].size, report.unjudged) == (2, 1)


def test_a_judge_s_reply_without_a_letter_is_a_guess_or_wrong(root):
    rows = answer(MMBench(str(root)), Lmms(guess=False), ["feline", "D", "B", "B", "A"])
    numbers, report = scores(rows, ToldJudge("I cannot say"))
    assert numbers["accuracy", "overall"] == pytest.approx(200 / 3)
    assert report.malformed == 1
    guessed = [
        scores(answer(MMBench(str(root)), Lmms(), [text, "D", "B", "B", "A"]), ToldJudge("?"))[0] for text in "?!"
    ]
    assert guessed[0] == guessed[1]  # drawn by the question, not by what was said


def test_the_static_form_asks_no_judge(root):
    texts = ["Answer:A", "surely (D)!", "B", "B", "A"]
    numbers, report = scores(answer(MMBench(str(root)), Lmms(judged=False), texts))
    assert numbers["accuracy", "overall"] == 100
    assert report.unjudged == 0
    numbers, report = scores(answer(MMBench(str(root)), Llava(judged=False), ["", *texts[1:]]))
    assert numbers["accuracy", "overall"] == pytest.approx(200 / 3)
    assert report.unparsed == 1


def test_of_the_test_split_there_is_a_table_and_no_number(root):
    rows = answer(MMBench(str(root), split="test"), Lmms(), ["A", "D", "B", "B", "?"])
    numbers, _ = scores(rows)
    assert numbers["accuracy", "overall"] is None
    lines = Lmms().submission(rows)["mmbench-en-test.tsv"].splitlines()
    assert lines[0].split("\t")[:7] == ["index", "question", "A", "B", "C", "D", "prediction"]
    assert lines[1].split("\t") == ["7", "What is it", "cat", "dog", "", "", "A", "object", "coarse"]
    assert len(lines) == 6
    assert Lmms().submission(answer(MMBench(str(root)), Lmms(), ["A"])) == {}
