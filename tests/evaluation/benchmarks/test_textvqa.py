import pytest

from ppl.evaluation.benchmarks.textvqa import Llava, Lmms, TextVQA
from tests.evaluation.made_up_rows import answer, scores, write_json

TAIL = "Answer the question using a single word or phrase."


@pytest.fixture
def root(tmp_path):
    people = ["nokia's"] * 3 + ["nokia"] * 7
    row = {"question": "what is the BRAND?", "image_id": "ab12", "question_id": 34602, "answers": people}
    write_json(tmp_path / "TextVQA_0.5.1_val.json", {"data": [row, {**row, "question_id": 34603}]})
    found = {"image_id": "ab12", "ocr_tokens": ["NOKIA", "3310"], "ocr_info": []}
    write_json(tmp_path / "TextVQA_Rosetta_OCR_v0.2_val.json", {"data": [found]})
    return tmp_path


def test_items_and_prompts(root):
    plain, seen = TextVQA(str(root)).items()[0], TextVQA(str(root), ocr=True).items()[0]
    assert plain.media[0].path == str(root / "train_images/ab12.jpg")
    assert (plain.id, plain.cluster, plain.facts) == ("34602", "ab12", {})
    assert Lmms().prompt(plain, []) == f"What is the brand?\n{TAIL}"
    assert Lmms(capitalized=False).prompt(plain, []) == f"what is the BRAND?\n{TAIL}"
    assert Llava().prompt(seen, []) == f"what is the BRAND?\nReference OCR token: NOKIA, 3310\n{TAIL}"
    assert Llava(ocr=False).prompt(plain, []) == f"what is the BRAND?\n{TAIL}"
    with pytest.raises(
        ValueError, match=r"got question 34602 of TextVQA without OCR tokens, .*set the benchmark's ocr: true"
    ):
        Llava().prompt(plain, [])


def test_an_apostrophe_s_is_a_word_of_its_own(root):
    # "nokia's" becomes "nokia 's", which three said: seven others see 3 (1), the three themselves 2 of 3
    numbers, _ = scores(answer(TextVQA(str(root)), Lmms(), ["Nokia's", "a Nokia?"]))
    assert numbers["accuracy", "overall"] == pytest.approx(100 * ((7 + 3 * 2 / 3) / 10 + 1) / 2)
