import pytest

from ppl.evaluation.benchmarks import nextqa
from ppl.evaluation.benchmarks.nextqa import Lmms, LmmsOpen, NExTQA
from ppl.evaluation.protocol import Frames
from tests.evaluation.made_up_rows import answer, scores, write_json

MC = """video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4
10,719,320,240,what did the baby do,2,8,TP,clap ,the lady,lay on floor,just picked it up,crawl
10,719,320,240,where is this place,1,1,DL,mall,river,swimming pool,living room,mountain
11,9,3,2,why is he there,0,0,CW,to sing,to eat,to sleep,to work,to run
"""
OE = """video,frame_count,width,height,question,answer,qid,type
10,719,320,240,is the baby old enough to talk,no,4,DB
11,9,3,2,how does he eat,uses a spoon,8,CH
"""


@pytest.fixture
def root(tmp_path):
    for name, text in (("NExT-QA", MC), ("NExT-OE", OE)):
        folder = tmp_path / name / "dataset" / "nextqa"
        folder.mkdir(parents=True)
        (folder / "test.csv").write_text(text)
    write_json(tmp_path / "NExT-OE/dataset/nextqa/add_reference_answer_test.json", {"11": {"8": "with a fork"}})
    write_json(tmp_path / "NExT-QA/dataset/nextqa/map_vid_vidorID.json", {"11": "1164/11"})
    (tmp_path / "NExTVideo").mkdir()
    return tmp_path


def test_questions_of_both_kinds(root):
    choice = NExTQA(str(root))
    items = choice.items()
    assert (choice.name, [item.id for item in items]) == ("nextqa-mc-test", ["10_8", "10_1", "11_0"])
    assert [item.answer for item in items] == ["C", "B", "A"]
    assert items[0].options == ("clap", "the lady", "lay on floor", "just picked it up", "crawl")
    assert [item.groups for item in items] == [
        {"kind": "temporal", "type": "TN"},
        {"kind": "descriptive", "type": "DL"},
        {"kind": "causal", "type": "CW"},
    ]
    assert items[0].media[0].path == str(root / "NExTVideo" / "10.mp4")
    assert items[2].media[0].path == str(root / "NExTVideo" / "1164" / "11.mp4")
    first, second = NExTQA(str(root), task="oe").items()
    assert (first.answer, first.answers, first.options) == ("no", (), ())
    assert second.answers == ("uses a spoon", "with a fork")


def test_prompts(root):
    item = NExTQA(str(root)).items()[0]
    asked = "what did the baby do\nA. clap\nB. the lady\nC. lay on floor\nD. just picked it up\nE. crawl"
    assert Lmms().prompt(item, []) == Lmms().guide(item) == asked
    assert Lmms(num_frames=8).frames(item) == Frames(8, "linspace")
    item = NExTQA(str(root), task="oe").items()[1]
    assert LmmsOpen().prompt(item, []) == "how does he eat\nAnswer a question using a short phrase or sentence."
    assert LmmsOpen().guide(item) == "how does he eat"


def test_choices_are_marked_and_guesses_stay_unparsed(root):
    """C is right; the river's own words are too few to count, so a letter is drawn; "A. or" is right."""
    rows = answer(NExTQA(str(root)), Lmms(guess=False), ["(C)", "river", "A. or"])
    values, report = scores(rows)
    assert values["accuracy", "overall"] == pytest.approx(200 / 3)
    assert values["accuracy", "kind=descriptive"] == 0.0
    assert report.unparsed == 1
    guessed = scores(answer(NExTQA(str(root)), Lmms(), ["(C)", "river", "A. or"]))
    assert guessed[1].unparsed == 1
    assert guessed[0] == scores(answer(NExTQA(str(root)), Lmms(), ["(C)", "river", "A. or"]))[0]


def test_open_answers_are_marked_by_the_reference_that_is_more_alike(root, monkeypatch):
    alike = {
        ("a fork", "uses a spoon", 0.0): 0.4,
        ("a fork", "with a fork", 0.0): 0.9,
        ("a fork", "with a fork", 0.9): 0.8,
    }
    monkeypatch.setattr(nextqa, "wups", lambda *asked: alike.get(asked, 0.0))
    monkeypatch.setattr(nextqa, "content_words", str.split)
    values, report = scores(answer(NExTQA(str(root), task="oe"), LmmsOpen(), ["not yet", "a fork"]))
    assert values["wups_0", "type=CH"] == pytest.approx(90.0)
    assert values["wups_0.9", "type=CH"] == pytest.approx(80.0)
    assert values["wups_0", "type=DB"] == 0.0  # yes and no are compared as they are
    assert values["wups_0", "overall"] == pytest.approx(45.0)
    assert values["token_f1", "type=CH"] == pytest.approx(100 * 2 / 3)  # "fork" of "with fork"
    assert report.unparsed == 0
    values, _ = scores(answer(NExTQA(str(root), task="oe"), LmmsOpen(), ["no"]))
    assert values["wups_0", "type=DB"] == 100.0
