import pytest

from ppl.evaluation.mmmu_answers import normal_forms, open_candidates, open_is_right


@pytest.mark.parametrize(
    ("said", "candidates"),
    [
        ("Paris.", ["paris"]),
        ("The answer is 1,234.567", ["1,234.567"]),
        ("So x = 3", ["3"]),
        ("", [""]),
    ],
)
def test_what_an_answer_announces_comes_first(said, candidates):
    normal = [form for each in candidates for form in normal_forms(each)]
    assert open_candidates(said)[: len(normal)] == normal


def test_equals_counts_in_the_last_line_only():
    assert open_candidates("y = 4\nz = 5") == [5.0]
    assert open_candidates("y = 4\nnothing") == ["y = 4\nnothing", 4.0]


@pytest.mark.parametrize(
    ("said", "reference", "right"),
    [
        ("The result is 24.00 m", "24", True),  # 24.0 is among its numbers
        ("24", "24.004", True),  # two decimal places count
        ("24", "24.006", False),
        ("It is in central Paris.", "Paris", True),
        ("apple", "a", False),  # a single letter must stand by itself
        ("it is type a or b", "a", True),  # "type a or b" holds "a "
        ("1,000 dollars", "1000", True),
        ("", "x", False),
    ],
)
def test_a_number_or_words_among_the_candidates_are_right(said, reference, right):
    assert open_is_right(open_candidates(said), reference) is right


def test_numbers_and_letters_have_one_form():
    assert normal_forms(" 1,000.126 ") == [1000.13]
    assert normal_forms("B") == [" b", "b "]
    assert normal_forms("Big") == ["big"]
