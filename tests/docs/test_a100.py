"""docs/a100.md is what the planner says."""

import pytest

from benchmarks.a100 import END, MACHINES, PAGE, RECIPES, START, line, planned, section, sharded
from ppl.planning.recipe import read_recipe

TEXT = PAGE.read_text(encoding="utf-8").split(START)[1].split(END)[0]


QUICK = "sft_video_llava"
"""Planned by the default tests; together the others take half a minute of a core."""


@pytest.mark.parametrize(
    "name", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES]
)
def test_the_page_is_what_the_planner_says(name):
    """Else: python -m benchmarks.a100."""
    assert line(name) in TEXT
    assert section(name) in TEXT


@pytest.mark.parametrize("gpus", MACHINES)
def test_the_batch_is_the_recipe_s(gpus):
    """Devices x batch x accumulated steps, by hand from the resolved recipe."""
    words, _ = planned(QUICK, gpus)
    recipe = read_recipe(words)
    devices = recipe.trainer["devices"] * recipe.trainer["num_nodes"]
    assert devices == gpus
    assert devices * recipe.data["init_args"]["batch_size"] * recipe.trainer["accumulate_grad_batches"] == 128


def test_more_gpus_hold_less_each():
    eight, sixteen = (sharded(planned(QUICK, gpus).plan)["total"] for gpus in MACHINES)
    assert sixteen < eight
