"""Golden vectors of MMMU's open answers.

What its authors' functions gave for these very texts: MMMU-Benchmark/MMMU 51ce7f3, ``eval/eval_utils.py`` (the file is
``mmmu/utils/eval_utils.py`` today, the same). lmms-eval 0.7.3's functions of the same names, ``tasks/mmmu/utils.py``,
gave the same. Each test names its function.
"""

import pytest

from ppl.evaluation.mmmu_answers import normal_forms, open_candidates, open_is_right


@pytest.mark.parametrize(
    ("said", "candidates"),
    [
        ("Paris.", {"paris"}),
        ("The answer is 1,234.567", {1234.57, 1234.0, 234.57}),
        ("So x = 3", {3.0}),
        ("", {""}),
        ("y = 4\nz = 5", {5.0}),  # "=" counts in the last line only
        ("y = 4\nnothing", {"y = 4\nnothing", 4.0}),
        ("The result is 24.00 m", {"24.00 m", 24.0}),
        ("It is in central Paris.", {"in central paris"}),
        ("1,000 dollars", {"1,000 dollars", 1000.0, 0.0}),
        ("1.5e3 or -2", {"1.5e3 or -2", 1500.0, -2.0, 1.0, 3.0}),
    ],
)
def test_candidates_are_those_of_parse_open_response(said, candidates):
    assert set(open_candidates(said)) == candidates


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
def test_a_candidate_is_right_as_in_eval_open(said, reference, right):
    assert open_is_right(open_candidates(said), reference) is right


@pytest.mark.parametrize(("text", "forms"), [(" 1,000.126 ", [1000.13]), ("B", [" b", "b "]), ("Big", ["big"])])
def test_forms_are_those_of_normalize_str(text, forms):
    assert normal_forms(text) == forms
