import json

import pytest

from ppl.evaluation.benchmark import read_items
from ppl.evaluation.benchmarks.embedded_world import QUESTIONS, EmbeddedWorld
from ppl.evaluation.benchmarks.gqa import GQA


@pytest.mark.parametrize(
    ("content", "told"),
    [([1], "Type"), ([{"id": "a"}], "KeyError: 'options'"), ([{"id": "a", "options": None}], "TypeError: ")],
)
def test_questions_of_another_form_name_their_benchmark(content, told, tmp_path):
    (tmp_path / QUESTIONS).write_text(json.dumps(content))
    expected = (
        rf"(?s)got files of embedded-world in which it does not find what it reads \({told}.*expected those that its"
    )
    with pytest.raises(ValueError, match=expected):
        read_items(EmbeddedWorld(str(tmp_path)))


def test_a_list_in_place_of_an_object_names_its_benchmark(tmp_path):
    (tmp_path / "testdev_balanced_questions.json").write_text("[]")
    with pytest.raises(
        ValueError, match=r"got files of gqa.* \(AttributeError: 'list' object has no attribute 'items'"
    ):
        read_items(GQA(str(tmp_path)))


def test_what_a_benchmark_says_itself_stays_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the questions that"):
        read_items(EmbeddedWorld(str(tmp_path)))
