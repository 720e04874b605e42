import pytest

from ppl.evaluation.benchmarks.mme import MME, Lmms, Official
from tests.evaluation.made_up_rows import answer, scores

APART = ("artwork", "celebrity", "landmark", "posters", "scene")
NAMES = (*APART, "OCR", "code_reasoning", "color", "commonsense_reasoning", "count", "existence")
NAMES = (*NAMES, "numerical_calculation", "position", "text_translation")
ASKED = "Is this {}? Please answer yes or no."


@pytest.fixture
def root(tmp_path):
    """Two images in `existence`, one in each other category."""
    for name in NAMES:
        texts = tmp_path / name / "questions_answers_YN" if name in APART else tmp_path / name
        images = tmp_path / name / "images" if name in APART else tmp_path / name
        for folder in (texts, images):
            folder.mkdir(parents=True, exist_ok=True)
        for number in range(2 if name == "existence" else 1):
            (images / f"{number}.jpg").write_bytes(b"")
            (texts / f"{number}.txt").write_text(f"{ASKED.format('good')}\tYes\n{ASKED.format('bad')}\tNo\n")
    return tmp_path


def test_both_layouts_are_read(root):
    items = MME(str(root)).items()
    assert len(items) == 30
    assert items[0].id == "existence/0.jpg/0"
    assert items[0].media[0].path == str(root / "existence/0.jpg")
    by_id = {item.id: item for item in items}
    assert by_id["posters/0.jpg/1"].media[0].path == str(root / "posters/images/0.jpg")
    assert by_id["posters/0.jpg/1"].answer == "no"
    assert by_id["OCR/0.jpg/0"].groups == {"category": "OCR", "kind": "perception"}


def test_prompts(root):
    item = MME(str(root)).items()[0]
    assert Official().prompt(item, []) == "Is this good? Please answer yes or no."
    assert Lmms().prompt(item, []) == "Is this good?\nAnswer the question using a single word or phrase."
    assert Lmms().guide(item) == "Is this good?"


def test_an_image_counts_twice_if_both_are_right(root):
    items = MME(str(root)).items()
    # existence: one image both right, one half right; count (next): both wrong; all others both right
    said = {"existence/0.jpg": ["Yes", "no."], "existence/1.jpg": ["yes", "yes"], "count/0.jpg": ["None", "Maybe"]}
    texts = [said.get(item.cluster, ["yes", "no"])[int(item.id[-1])] for item in items]
    numbers, report = scores(answer(MME(str(root)), Lmms(), texts))
    assert numbers["score", "category=existence"] == 75 + 50  # accuracy 3 of 4, one image of two
    assert numbers["score", "category=count"] == 0
    assert numbers["perception_score", "overall"] == 125 + 0 + 8 * 200
    assert numbers["cognition_score", "overall"] == 800
    assert numbers["accuracy_plus", "overall"] == pytest.approx(100 * 13 / 15)
    assert report.unparsed == 1  # "Maybe"
    # "None" begins with no: wrong as long as the reference is yes; by the first word it is neither
    sane, report = scores(answer(MME(str(root)), Official(first_letters=False), ["None", "no", *texts[2:]]))
    assert sane["score", "category=existence"] == 50 + 0
    assert report.unparsed == 2


def test_half_an_image_does_not_count(root):
    numbers, report = scores(answer(MME(str(root)), Lmms(), ["yes", "no", "yes"]))
    assert (report.answered, report.incomplete) == (2, 1)
    assert numbers["perception_score", "overall"] == 200
    assert numbers["accuracy", "overall"] == 100
    assert ("cognition_score", "overall") not in numbers


def test_other_files_are_refused(root):
    (root / "color" / "0.jpg").unlink()
    with pytest.raises(ValueError, match=r"0.txt with 2 lines and 0 images, expected 2 questions and 1 image"):
        MME(str(root)).items()
