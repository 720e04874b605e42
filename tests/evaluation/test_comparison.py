import json

import pytest

from ppl.evaluation.comparison import compare, to_json, to_markdown
from tests.evaluation.made_up_runs import Choice, Open, rows_of


def test_runs_are_paired_question_by_question():
    first = rows_of(["A", "B", "B", "B"], model="old")
    second = rows_of(["A", "A", "B", "A", "A"], model="new")
    comparison = compare(first, second)
    found = {each.group: each for each in comparison.differences}
    assert found["overall"][2:5] == (25.0, 75.0, 4)
    assert found["duration=short"][2:5] == (50.0, 50.0, 2)
    assert found["duration=long"][2:5] == (0.0, 100.0, 2)
    assert comparison.unpaired == (0, 1)
    low, high = found["overall"].interval
    assert low == high == 50.0  # each of the two videos gains as much
    text = to_markdown(comparison)
    assert "| accuracy | overall | 25.00 | 75.00 | +50.00 | +50.00 – +50.00 | 4 |" in text
    assert "old and new" in text
    assert "left out: 0 units of the first and 1 of the second alone · protocols: official-1 and official-1" in text
    values = json.loads(to_json(comparison))
    assert values["differences"][0]["interval"] == [50.0, 50.0]
    assert [run["model"] for run in values["runs"]] == ["old", "new"]


def test_a_paired_interval_is_narrower_than_what_the_runs_intervals_tell():
    """Either run is right about half of 40 videos, ±15; one answer in twenty differs, and that is all that varies."""
    first = ["A" if i // 2 % 2 else "B" for i in range(80)]
    second = ["A" if i % 20 == 0 else text for i, text in enumerate(first)]
    comparison = compare(rows_of(first), rows_of(second))
    overall = comparison.differences[0]
    alone = comparison.reports[1].scores[0]
    assert overall.second - overall.first == 5
    assert 0 < overall.interval.low < 5 < overall.interval.high
    assert overall.interval.high - overall.interval.low < (alone.high - alone.low) / 2


def test_one_model_by_two_protocols_is_a_comparison_too():
    texts = ["A", "?", "B", "A"]
    comparison = compare(rows_of(texts), rows_of(texts, Choice(strict=False)))
    assert comparison.differences[0].size == 3  # where both count
    assert "protocols: official-1 and official-1 (strict=False)" in to_markdown(comparison)


class Pairs(Choice):
    def units(self, rows):
        return [tuple(rows[i : i + 2]) for i in range(0, len(rows), 2)]


def test_units_are_paired_whatever_the_order_of_their_rows():
    rows = rows_of(["A", "A", "B", "A"], Pairs())
    comparison = compare(rows, rows[::-1])
    assert comparison.unpaired == (0, 0)
    assert comparison.differences[0].size == 2
    assert compare(rows, rows[3:1:-1]).unpaired == (1, 0)


def test_what_cannot_be_paired_is_an_error():
    with pytest.raises(ValueError, match=r"got a run of made-up and one of other, expected two of one benchmark"):
        compare(rows_of(["A"]), rows_of(["A"], benchmark="other"))
    with pytest.raises(ValueError, match=r"got two runs of made-up without a question in common"):
        compare(rows_of(["A"]), rows_of(["A", "A"])[1:])
    with pytest.raises(ValueError, match=r"without a score in common, expected some of \['accuracy'\]"):
        compare(rows_of(["A"]), rows_of(["A"], Open()))
