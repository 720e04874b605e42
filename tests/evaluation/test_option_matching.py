"""Golden vectors of MMBench's and MathVista's matching, each test with its source.

MMBench's are what lmms-eval 0.7.3's own functions gave for these very texts: ``tasks/mmbench/mmbench_evals.py``, class
``MMBench_Evaluator``. The authors' repository open-compass/MMBench has no code; their open-compass/VLMEvalKit,
``vlmeval/utils/matching_util.py``, has the same ``can_infer_text``, and turns punctuation into blanks for letters.
MathVista's are what lupantech/MathVista 53d5258, ``evaluation/calculate_score.py``, gave.
"""

from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.evaluation.option_matching import (
    closest_option,
    edit_distance,
    inferred_option,
    lettered,
    named_option,
    quoted_option,
    with_options,
)

ANIMALS = {"A": "a cat", "B": "Dog", "C": "catfish"}


def test_options_in_prompts():
    assert lettered(["x", "y"]) == "A. x\nB. y"
    assert lettered(["x", "y"], "({}) {}") == "(A) x\n(B) y"
    assert with_options("q?", ["x"]) == "q?\nA. x"
    assert with_options("q?", []) == "q?"


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(C)", "C"),
        ("The answer is B", "B"),
        ("A dog", "A"),
        ("A dog on the lawn", None),  # an article, in more than three words
        ("A dog on the lawn, so B.", "B"),
        ("A B", None),  # two alone
        ("A or B.", "A"),  # one alone counts before one with a full stop
        ("Both A. and B.", None),
        ("E", "E"),
        ("F", None),
        ("b", None),
        ("", None),
    ],
)
def test_letters_are_words_of_an_answer(said, letter):
    """``can_infer_option``; False there is None here."""
    assert named_option(said) == letter


def test_words_of_one_option_tell_it():
    """``can_infer_text``, and ``can_infer``, which asks both."""
    assert quoted_option("I see a DOG", ANIMALS) == "B"
    assert quoted_option("a cat or a dog", ANIMALS) is None
    assert quoted_option("nothing", ANIMALS) is None
    assert inferred_option("it is a dog, C", ANIMALS) == "C"  # letters come first
    assert inferred_option("a dog", ANIMALS) == "B"


def test_the_closest_option():
    """MathVista's ``get_most_similar``, with the package Levenshtein's distances."""
    assert closest_option("2007", ["2008", "1999"]) == "2008"
    assert closest_option("", ["three", "two", "six"]) == "two"  # the shortest, and of two the first
    assert edit_distance("kitten", "sitting") == 3


@settings(deadline=None, max_examples=25)
@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edit_distance_is_its_recursive_definition(one, other):
    @lru_cache
    def distance(i, j):
        if not i or not j:
            return i + j
        return min(
            distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        )

    assert edit_distance(one, other) == distance(len(one), len(other))
