import json

import pytest

from ppl.evaluation.benchmarks.vqav2 import Lmms, VQAv2
from tests.evaluation.made_up_rows import answer, scores, write_json

TEN = ["two"] * 2 + ["2"] * 2 + ["dogs"] * 6


@pytest.fixture
def root(tmp_path):
    questions = {"questions": [{"image_id": 42, "question": "How many dogs?", "question_id": n} for n in (420, 421)]}
    for split in ("val2014", "test-dev2015", "test2015"):
        write_json(tmp_path / f"v2_OpenEnded_mscoco_{split}_questions.json", questions)
    people = {"answers": [{"answer": text, "answer_id": n} for n, text in enumerate(TEN)], "answer_type": "number"}
    rows = [
        {**people, "question_id": n, "question_type": "how many", "multiple_choice_answer": "dogs"} for n in (421, 420)
    ]
    write_json(tmp_path / "v2_mscoco_val2014_annotations.json", {"annotations": rows})
    return tmp_path


def test_items_and_prompts(root):
    item = VQAv2(str(root)).items()[0]
    assert item.media[0].path == str(root / "val2014/COCO_val2014_000000000042.jpg")
    assert item.answers == tuple(TEN)
    assert item.groups == {"question_type": "how many", "answer_type": "number"}
    test = VQAv2(str(root), split="test-dev").items()[0]
    assert test.media[0].path == str(root / "test2015/COCO_test2015_000000000042.jpg")
    assert (test.answer, test.answers) == (None, ())
    assert Lmms().prompt(item, []) == "How many dogs?\nAnswer the question using a single word or phrase."


def test_ten_people_and_the_nine_others(root):
    # "Two!" is 2, which four said: the six others see 4 (1), the four themselves 3 (1): all of it
    numbers, _ = scores(answer(VQAv2(str(root)), Lmms(), ["Two!", "three"]))
    assert numbers["accuracy", "overall"] == 50
    assert numbers["accuracy", "answer_type=number"] == 50


def test_commas_are_removed_first_for_textvqa_only(root):
    rows = answer(VQAv2(str(root)), Lmms(), ["dogs,cats"])
    assert Lmms().mark((rows[0],), ()).parsed == "dogs cats"
    assert Lmms(split_words=True).mark((rows[0],), ()).parsed == "dogscats"


def test_of_a_test_split_there_is_a_file_and_no_number(root):
    rows = answer(VQAv2(str(root), split="test"), Lmms(), ["The dogs.", "two"])
    numbers, _ = scores(rows)
    assert numbers["accuracy", "overall"] is None
    written = Lmms().submission(rows)
    assert list(written) == ["vqav2-test.json"]
    assert json.loads(written["vqav2-test.json"]) == [
        {"question_id": 420, "answer": "dogs"},
        {"question_id": 421, "answer": "2"},
    ]
    assert Lmms().submission(answer(VQAv2(str(root)), Lmms(), ["x", "y"])) == {}
