import json

import pytest

from ppl.evaluation.benchmarks.vizwiz import Lmms, VizWiz
from tests.evaluation.made_up_rows import answer, scores, write_json


@pytest.fixture
def root(tmp_path):
    row = {"image": "VizWiz_val_00000000.jpg", "question": "what does the NASA sign say?"}
    people = [{"answer": text, "answer_confidence": "yes"} for text in ["unanswerable"] * 8 + ["stop", "Stop"]]
    write_json(tmp_path / "val.json", [{**row, "answers": people, "answer_type": "unanswerable", "answerable": 0}] * 1)
    write_json(tmp_path / "test.json", [row])
    return tmp_path


def test_items_and_prompts(root):
    item = VizWiz(str(root)).items()[0]
    assert item.media[0].path == str(root / "val/VizWiz_val_00000000.jpg")
    assert item.groups == {"answer_type": "unanswerable"}
    tail = (
        "\nWhen the provided information is insufficient, respond with 'Unanswerable'."
        "\nAnswer the question using a single word or phrase."
    )
    assert Lmms().prompt(item, []) == f"What does the nasa sign say?{tail}"
    assert Lmms(capitalized=False).prompt(item, []) == f"what does the NASA sign say?{tail}"


def test_two_of_ten_said_so(root):
    # the eight others see 2 of 3, the two themselves 1 of 3
    numbers, _ = scores(answer(VizWiz(str(root)), Lmms(), ["stop?"]))
    assert numbers["accuracy", "overall"] == pytest.approx(100 * (8 * 2 / 3 + 2 * 1 / 3) / 10)


def test_of_the_test_split_there_is_a_file_and_no_number(root):
    rows = answer(VizWiz(str(root), split="test"), Lmms(), ["The Stop."])
    assert scores(rows)[0]["accuracy", "overall"] is None
    written = Lmms().submission(rows)
    assert {name: json.loads(text) for name, text in written.items()} == {
        "vizwiz-test.json": [{"image": "VizWiz_val_00000000.jpg", "answer": "stop"}]
    }
    assert Lmms().submission(answer(VizWiz(str(root)), Lmms(), ["x"])) == {}
