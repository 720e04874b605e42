"""Golden vectors of every extractor, each column with its source.

The rows of the first table are what lmms-eval's own functions, Video-MME's script and PPLLaVA's ``check_ans`` gave for
the same texts (lmms-eval 0.7.3, Video-MME's ``eval_your_results.py``, farewellthree/PPLLaVA d5766c8): "–" is an
answer from which nothing is read. The question has five options; ``check_ans`` is asked about option B.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.evaluation.letters import first_capital, first_capital_of_five, leading_letter, matches_option
from ppl.evaluation.letters_lmms import (
    egoschema_letter,
    guessed_letter,
    lone_letter,
    mark_or_guess,
    mmmu_letter,
    ranked_letter,
)
from tests.evaluation.made_up_rows import make_row

OPTIONS = ["red car", "A book", "a big man", "runs fast", "the tree"]
LETTERED = [f"{letter}. {option}" for letter, option in zip("ABCDE", OPTIONS, strict=True)]

# text: Video-MME's script, lmms Video-MME, LongVideoBench, NExT-QA, EgoSchema, MVBench, check_ans("(" + text, B)
GOLDEN = {
    "Based on the video, the answer is C.": "B C B C C C False",
    "b": "– – – – – B True",
    "": "– – – – – – True",
    "D. A book": "D D D A D D False",
    "**B**": "B B B – – B False",
    "B) Gray": "B B B – – B True",
    "The answer is B.": "B B B B B B False",
    "C is wrong, so B": "C C C B C C False",
    "A man is holding a dog, so D": "A A A D A A False",
    "Both A and B": "B B B B A A False",
    "B": "B B B B B B True",
    "(B)": "B B B B B B True",
    "B.": "B B B B B B True",
    "b) a dog": "– – – – – B True",
    "Answer: C": "C C A C C C False",
    "Best answer: D": "B D D D D D False",
    "The best option is D": "D D D D D D False",
    "The correct option is (E), not (A)": "A A E A E E False",
    "E": "– – E E E E False",
    "Option B: the red one": "B B B – – B False",
    "I think that it says a big man here": "– – – C – A False",
    "It is a book, a red car, or maybe the tree": "– – – E – A False",
    "答案是C": "C C C C C – False",
    "1,000 A": "A A A A A A False",
}


def shown(letter):
    return letter or "–"


@pytest.mark.parametrize("text", GOLDEN)
def test_golden_vectors(text):
    read = [
        first_capital(text),
        ranked_letter(text, "ABCD"),
        first_capital_of_five(text),
        mmmu_letter(text, OPTIONS),
        egoschema_letter(text, LETTERED),
        lone_letter(text),
    ]
    assert " ".join([*map(shown, read), str(matches_option(f"({text}", "B"))]) == GOLDEN[text]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b)", "B"),
        ("(c) red", "C"),
        ("A man walks", None),
        ("D. A book", "D"),
        ("", None),
        ("the B", None),
        (" e\nbecause", "E"),
    ],
)
def test_a_leading_letter_stands_on_its_own(text, letter):
    """Our own, the sane form of ``check_ans``: nothing else has it."""
    assert leading_letter(text) == letter


def test_check_ans_takes_the_first_word_and_nothing_for_anything():
    """farewellthree/PPLLaVA d5766c8, ``ppllava/test/mvbench/utils.py``, ``check_ans``."""
    assert matches_option("(B) red", "B")
    assert matches_option("(b.", "B")
    assert matches_option("(", "C")
    assert not matches_option("(a", "B")
    assert matches_option("(a man", "A")  # the article


def test_of_several_letters_in_the_same_place_the_last_counts():
    """``mcq_extract``'s ranks, by hand: behind "the answer is" (7) before "(A)" (6) before "B." (5)."""
    assert ranked_letter("(A) may be, but the answer is C or so", "ABCD") == "C"
    assert ranked_letter("(A) is wrong, B. is right, (C) too", "ABCD") == "C"
    assert ranked_letter("E it is", "ABCD") is None
    assert ranked_letter("xBxC", "ABCD") == "C"


@settings(deadline=None, max_examples=50)
@given(st.text(), st.sampled_from("ABCD"))
def test_a_letter_alone_is_read_by_all_and_no_text_breaks_any(text, letter):
    readers = [
        first_capital,
        first_capital_of_five,
        leading_letter,
        lone_letter,
        lambda said: ranked_letter(said, "ABCD"),
        lambda said: mmmu_letter(said, OPTIONS),
        lambda said: egoschema_letter(said, LETTERED),
    ]
    for read in readers:
        assert read(letter) == letter
        read(text)


def test_a_guess_is_the_question_s_own_and_evenly_spread():
    """Of 2000 questions with four options about 500 have each letter; 5 standard deviations are 97."""
    rows = [make_row(id=str(number), options=["x"] * 4, answer="A") for number in range(2000)]
    letters = [guessed_letter(row) for row in rows]
    assert letters == [guessed_letter(row) for row in rows]
    assert all(abs(letters.count(letter) - 500) < 97 for letter in "ABCD")


def test_a_guess_stays_unparsed_and_can_be_left():
    row = make_row(id="7", options=["x"] * 4, answer="A")
    right = make_row(id="7", options=["x"] * 4, answer=guessed_letter(row))
    assert mark_or_guess(right, None, guess=True) == ({"accuracy": 1.0}, None)
    assert mark_or_guess(right, None, guess=False) == ({"accuracy": 0.0}, None)
    assert mark_or_guess(row, "A", guess=True) == ({"accuracy": 1.0}, "A")
    assert mark_or_guess(make_row(answer=None), "A", guess=True) == ({"accuracy": None}, "A")
