import json

import pytest

from ppl.evaluation.benchmarks.egoschema import EgoSchema, Lmms
from tests.evaluation.made_up_rows import answer, scores, write_json


@pytest.fixture
def root(tmp_path):
    options = {f"option {i}": f"C does {i}" for i in range(5)}
    write_json(
        tmp_path / "questions.json",
        [
            {"q_uid": name, "google_drive_id": "x", "question": "What does C do?", **options}
            for name in ("u1", "u2", "u3")
        ],
    )
    write_json(tmp_path / "subset_answers.json", {"u1": 3, "u3": 0})
    return tmp_path


def test_the_subset_has_answers_and_the_rest_has_none(root):
    items = EgoSchema(str(root)).items()
    assert [(item.id, item.answer) for item in items] == [("u1", "D"), ("u3", "A")]
    whole = EgoSchema(str(root), subset=False)
    assert [item.answer for item in whole.items()] == ["D", None, "A"]
    assert (EgoSchema(str(root)).name, whole.name) == ("egoschema-subset", "egoschema")
    assert items[0].media[0].path == str(root / "videos" / "u1.mp4")
    write_json(root / "subset_answers.json", {"u9": 3})
    with pytest.raises(ValueError, match=r"with answers to \['u9'\], which questions.json lacks"):
        EgoSchema(str(root)).items()


def test_the_prompt(root):
    item = EgoSchema(str(root)).items()[0]
    asked = "What does C do?\nA. C does 0\nB. C does 1\nC. C does 2\nD. C does 3\nE. C does 4"
    assert Lmms().guide(item) == asked
    assert Lmms().prompt(item, []) == f"{asked}\nAnswer with the option's letter from the given choices directly."


def test_accuracy_is_that_of_the_known_answers(root):
    """D is right, B is unknown, and E is wrong: 50 % of two."""
    values, report = scores(answer(EgoSchema(str(root), subset=False), Lmms(), ["D.", "(B)", "E"]))
    assert values["accuracy", "overall"] == 50.0
    assert (report.answered, report.unparsed) == (3, 0)


def test_the_submission_is_whole(root):
    whole = EgoSchema(str(root), subset=False)
    rows = answer(whole, Lmms(guess=False), ["D.", "(B)", "none of these"])
    files = Lmms(guess=False).submission(rows)
    assert json.loads(files["egoschema.json"]) == {"u1": 3, "u2": 1, "u3": -1}
    assert files["egoschema.csv"] == "q_uid,answer\nu1,3\nu2,1\nu3,-1\n"
    with pytest.raises(ValueError, match=r"got 2 of 3 answers, expected all of them for a submission"):
        Lmms().submission(rows[:2])
    guessed = json.loads(Lmms().submission(answer(whole, Lmms(), ["D.", "(B)", "none of these"]))["egoschema.json"])
    assert guessed["u3"] in range(5)
    assert Lmms().submission(answer(EgoSchema(str(root)), Lmms(), ["D", "A"])) == {}
