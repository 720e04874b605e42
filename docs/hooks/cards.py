"""A model card for each experiment, filled in as far as its recipe goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ppl.exporting.card import TO_FILL_IN, model_card

INTRODUCTION = f"""\
# Model cards

What `ppl export` writes as `README.md` of a model, and here what it would be before a run: the recipe's part.
{TO_FILL_IN} marks what only you know. The number of visual tokens is the exported model's own; `ppl plan` tells it,
too.
"""


def cards_page(root: Path) -> str:
    """The cards of all experiments, as blocks to copy."""
    paths = sorted((root / "recipes/experiments").glob("*.yaml"))
    return "\n".join([INTRODUCTION, *(f"## {path.stem}\n\n````markdown\n{card_of(path)}````\n" for path in paths)])


def card_of(path: Path) -> str:
    """The card of what one experiment makes."""
    recipe = read_recipe(path)
    data, trainer = recipe["data"], recipe["trainer"]
    facts = {"data": f"`{data['class_path'].rpartition('.')[2]}`, {TO_FILL_IN}"}
    facts |= {
        key.replace("_", " "): value
        for key, value in data.get("init_args", {}).items()
        if key in ("num_frames", "template")
    }
    accumulated = trainer.get("accumulate_grad_batches", 1)
    facts |= {"precision": trainer.get("precision", "32-true"), "epochs": trainer["max_epochs"]}
    facts |= {"batches accumulated": accumulated, "seed": recipe["seed_everything"]}
    facts |= {"visual tokens of a video": TO_FILL_IN} if "pooler" in recipe["model"]["init_args"] else {}
    command = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").partition("      (")[0]
    opening = (
        f"Made by `ppl`, a framework for [PPLLaVA](https://arxiv.org/abs/2411.02327):\n\n```bash\n{command}\n```\n"
    )
    return model_card(path.stem, recipe["model"], facts, opening)


def read_recipe(path: Path) -> dict[str, Any]:
    """An experiment with the parts that it names read in."""
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    arguments = recipe["model"]["init_args"]
    for name, value in arguments.items():
        if isinstance(value, str) and value.endswith(".yaml"):
            arguments[name] = yaml.safe_load((path.parent / value).read_text(encoding="utf-8"))
    return recipe
