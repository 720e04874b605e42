import pytest

from ppl.evaluation.benchmarks.scienceqa import Lmms, ScienceQAImage
from tests.evaluation.made_up_rows import answer, scores, write_json

TAIL = "Answer with the option's letter from the given choices directly."


@pytest.fixture
def root(tmp_path):
    def problem(image, hint=""):
        names = {"subject": "natural science", "grade": "grade2"}
        return {**names, "question": "Which?", "choices": ["x", "y"], "answer": 1, "hint": hint, "image": image}

    problems = {str(n): problem("image.png", "Look." if n == 1 else "") for n in range(1, 6)} | {"9": problem(None)}
    write_json(tmp_path / "problems.json", problems)
    write_json(tmp_path / "pid_splits.json", {"test": ["1", "9", "2", "3", "4", "5"], "val": []})
    return tmp_path


def test_only_questions_with_an_image_are_asked(root):
    items = ScienceQAImage(str(root)).items()
    assert [item.id for item in items] == ["1", "2", "3", "4", "5"]
    assert items[0].media[0].path == str(root / "images/test/1/image.png")
    assert (items[0].answer, items[0].groups) == ("B", {"subject": "natural science", "grade": "grade2"})
    assert Lmms().prompt(items[0], []) == f"Context: Look.\nWhich?\nA. x\nB. y\n{TAIL}"
    assert Lmms().prompt(items[1], []) == f"Which?\nA. x\nB. y\n{TAIL}"


@pytest.mark.parametrize(
    ("reading", "percent", "unparsed"),
    [("lmms", 40, 3), ("llava", 40, 3), ("ranked", 80, 1)],
)
def test_one_text_is_worth_more_to_one_than_to_another(root, reading, percent, unparsed):
    """lmms-eval 0.7.3, ``tasks/scienceqa/utils.py``, ``sqa_process_results``; LLaVA, ``eval_science_qa.py``."""
    # lmms: b, B.; llava: "B. y" would be, B.y is not, but "The answer is B" is, and b is not
    texts = {
        "lmms": ["b", "B.y", "(B)", "The answer is B", "C"],
        "llava": ["b", "B.y", "(B)", "I say. The answer is B", "B\n"],
        "ranked": ["b", "B.y", "(B)", "The answer is B", "B"],
    }[reading]
    numbers, report = scores(answer(ScienceQAImage(str(root)), Lmms(reading=reading), texts))
    assert (numbers["accuracy", "overall"], report.unparsed) == (percent, unparsed)
