"""docs/leaderboard.md is made of what is committed, and names recipes that are there."""

import pytest

from benchmarks.leaderboard import PAGE, POOLERS, ROOT, committed, page

REPORT = {
    "model": "weighted/last 0123456789ab",
    "protocol": {"name": "official", "version": "1", "init_args": {"list_options": True}},
    "answered": 9,
    "total": 11,
    "unparsed": 2,
    "scores": [
        {"metric": "accuracy", "group": "overall", "value": 1.0, "low": 0.0, "high": 2.0},
        {"metric": "accuracy", "group": "form=multiple_choice", "value": 51.26, "low": 40.0, "high": 60.04},
        {"metric": "accuracy", "group": "form=yes_no", "value": 50.0, "low": None, "high": None},
        {"metric": "exact_match", "group": "form=open_ended", "value": None, "low": None, "high": None},
    ],
}


def test_the_page_is_that_of_the_committed_results():
    assert PAGE.read_text() == page(*committed()), "run python -m benchmarks.leaderboard"


def test_without_results_it_says_so_and_shows_what_is_published():
    text = page({}, committed()[1])
    assert "No result is committed yet" in text
    assert "published, not re-run" in text


def test_a_row_for_each_pooler_and_protocol():
    text = page({"weighted": [REPORT]}, committed()[1])
    row = (
        "| weighted | official-1 (list_options=True) | 51.3 [40.0, 60.0] | 50.0 | – | – | 9 of 11 | 2 | "
        "weighted/last 0123456789ab | 53.6 (v2 Table 5) |"
    )
    assert row in text.splitlines()


@pytest.mark.parametrize("model", committed()[1]["models"], ids=lambda model: model["title"])
def test_published_numbers_stand_beside_recipes_that_are_there(model):
    assert (ROOT / model["recipe"]).is_file()
    for _, recipe, _, source in model["numbers"]:
        assert (ROOT / "recipes/eval" / f"{recipe.partition(', ')[0]}.yaml").is_file()
        assert "Table" in source


def test_poolers_are_there():
    for pooler in {*POOLERS, *committed()[1]["poolers"]}:
        assert (ROOT / f"recipes/parts/poolers/{pooler}.yaml").is_file()
