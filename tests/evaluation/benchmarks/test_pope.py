import json

import pytest

from ppl.evaluation.benchmarks.pope import Llava, Lmms, Pope
from tests.evaluation.made_up_rows import answer, scores

LABELS = {"random": ["yes", "yes", "no", "no"], "popular": ["yes", "no"], "adversarial": ["no"]}


@pytest.fixture
def root(tmp_path):
    for kind, labels in LABELS.items():
        rows = [
            {"question_id": n, "image": f"COCO_{n}.jpg", "text": "Is there a dog in the image?", "label": label}
            for n, label in enumerate(labels, 1)
        ]
        (tmp_path / f"coco_pope_{kind}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_items_and_prompts(root):
    items = Pope(str(root)).items()
    assert [item.id for item in items][3:5] == ["random-4", "popular-1"]
    assert items[0].media[0].path == str(root / "val2014/COCO_1.jpg")
    assert (items[0].answer, items[2].answer, items[4].groups) == ("yes", "no", {"category": "popular"})
    asked = "Is there a dog in the image?\nAnswer the question using a single word or phrase."
    assert Lmms().prompt(items[0], []) == Llava().prompt(items[0], []) == asked


def test_lmms_takes_nothing_but_the_word(root):
    # random: Yes. (neither), yes (right), yes (wrong), no (right); popular: no (missed), No! (neither); adversarial: no
    texts = ["Yes.", "yes", "YES", "no", "no", "No!", "No"]
    numbers, report = scores(answer(Pope(str(root)), Lmms(), texts))
    assert report.unparsed == 2
    assert numbers["accuracy", "overall"] == pytest.approx(100 * 3 / 7)
    assert numbers["precision", "overall"] == 50  # of two yes one is right
    assert numbers["recall", "overall"] == 50  # "Yes." is left out: one found, one missed
    assert numbers["f1", "overall"] == 50
    assert numbers["yes_ratio", "overall"] == pytest.approx(100 * 3 / 7)  # of the references
    assert (numbers["precision", "category=popular"], numbers["f1", "category=popular"]) == (0, 0)  # no yes
    sane, _ = scores(
        answer(Pope(str(root)), Lmms(exact=False, unread_recalled=False, ratio_of_truth=False), ["I", *texts[1:]])
    )
    assert sane["recall", "overall"] == pytest.approx(100 / 3)  # "I" misses the object, as "no" does
    assert sane["accuracy", "overall"] == pytest.approx(100 * 4 / 7)  # No! is no
    assert sane["yes_ratio", "overall"] == pytest.approx(100 * 2 / 7)


def test_llava_takes_what_does_not_say_no_for_yes(root):
    texts = ["Yes.", "", "There is not", "no", "No, it has none", "No", "It has no dog. Yes"]
    numbers, report = scores(answer(Pope(str(root)), Llava(), texts))
    assert report.unparsed == 0
    assert numbers["accuracy", "overall"] == pytest.approx(100 * 6 / 7)
    assert numbers["recall", "overall"] == pytest.approx(200 / 3)
    assert numbers["precision", "overall"] == 100
    assert numbers["f1", "overall"] == pytest.approx(80)
    assert numbers["precision", "category=adversarial"] is None  # their script stops
    assert numbers["recall", "category=adversarial"] is None  # nothing to find
    sane, report = scores(answer(Pope(str(root)), Llava(else_yes=False), texts))
    assert report.unparsed == 3
    assert sane["recall", "overall"] == pytest.approx(100 / 3)
