import pytest

from ppl.evaluation.benchmarks.gqa import GQA, Llava, Lmms
from tests.evaluation.made_up_rows import answer, scores, write_json


@pytest.fixture
def root(tmp_path):
    types = {"structural": "query", "semantic": "rel", "detailed": "relO"}
    row = {"imageId": "n7", "question": "What is it?", "answer": "t-shirt", "types": types}
    write_json(tmp_path / "testdev_balanced_questions.json", {"201": row, "202": row, "203": row, "204": row})
    return tmp_path


def test_items_and_prompts(root):
    items = GQA(str(root)).items()
    assert (items[1].id, items[1].cluster) == ("202", "n7")
    assert items[0].media[0].path == str(root / "images/n7.jpg")
    assert items[0].groups == {"structural": "query", "semantic": "rel"}
    asked = "What is it?\nAnswer the question using a single word or phrase."
    assert Lmms().prompt(items[0], []) == Llava().prompt(items[0], []) == asked


@pytest.mark.parametrize(
    ("protocol", "percent"),
    [(Lmms(), 75), (Lmms(keep_blanks=True), 50), (Llava(), 50)],
)
def test_letters_alone_or_the_text_without_full_stops(root, protocol, percent):
    """lmms-eval 0.7.3, ``api/metrics.py``, ``exact_match_hf_evaluate``; LLaVA, ``scripts/convert_gqa_for_eval.py``."""
    texts = ["T-shirt.", "tshirt!", " t-shirt", "a t-shirt"]  # LLaVA's: the first and the third
    numbers, _ = scores(answer(GQA(str(root)), protocol, texts))
    assert numbers["accuracy", "overall"] == percent
