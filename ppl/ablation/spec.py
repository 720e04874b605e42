"""The YAML of an ablation: a base recipe, rows that change it, seeds, and the controls that are always in it."""

from __future__ import annotations

import re
from argparse import ArgumentError
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from ppl.recipe_files import check_recipe


@dataclass(frozen=True)
class RowSpec:
    """One way to run the base recipe.

    Args:
        arguments: Words for ``ppl fit`` and ``ppl test`` after those of the base recipe.
        test_arguments: Further words for ``ppl test`` alone: other frames or kernels than in training.
        title: What to call the row in tables; empty: its key.
        published: The papers' number for it, with its source; shown as published, not re-run.
    """

    arguments: list[str] = field(default_factory=list)
    test_arguments: list[str] = field(default_factory=list)
    title: str = ""
    published: str = ""


@dataclass(frozen=True)
class Preparation:
    """A ``ppl fit`` run once per seed, before the cells that build on it; ``{name}`` stands for its folder in them.

    Args:
        name: Word for its folder.
        arguments: Words for ``ppl fit``; ``{seed}`` is replaced.
    """

    name: str
    arguments: list[str]


@dataclass(frozen=True)
class Ablation:
    """A grid of (row x seed).

    Args:
        name: Word for its folder below ``runs/ablations``.
        title: First line of its report.
        base: Recipe of every cell, as for ``ppl fit -c``.
        rows: Rows by name; the first is the one that the others are compared with.
        seeds: One cell per row and seed.
        description: What is compared and why, in a few sentences.
        arguments: Words for every cell; ``{seed}`` and the preparations' ``{name}`` are replaced.
        prepare: Runs that cells build on, once per seed.
        average: The control that ignores the prompt; always one of the rows.
        random: The control that keeps random tokens; always one of the rows.
    """

    name: str
    title: str
    base: str
    rows: dict[str, RowSpec]
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    description: str = ""
    arguments: list[str] = field(default_factory=lambda: ["--seed_everything={seed}"])
    prepare: list[Preparation] = field(default_factory=list)
    average: RowSpec = field(
        default_factory=lambda: RowSpec(
            ["--model.pooler=recipes/parts/poolers/average.yaml"], title="average (control)"
        )
    )
    random: RowSpec = field(
        default_factory=lambda: RowSpec(["--model.pooler=recipes/parts/poolers/random.yaml"], title="random (control)")
    )

    def __post_init__(self) -> None:
        if not self.rows or not self.seeds:
            msg = f"got {len(self.rows)} rows and {len(self.seeds)} seeds, expected at least one of each"
            raise ValueError(msg)
        if len(set(self.seeds)) < len(self.seeds):
            msg = f"got the seeds {self.seeds}, expected each once: a seed has one folder"
            raise ValueError(msg)
        reserved = {"average", "random"} & set(self.rows)
        if reserved:
            names = sorted(reserved)
            msg = f"got rows named {names}, which are the controls; set them as average: and random: beside rows"
            raise ValueError(msg)
        for name in (self.name, *self.rows, *(run.name for run in self.prepare)):
            if not re.fullmatch(r"[A-Za-z0-9_.+-]+", name):
                msg = f"got the name {name!r}, expected letters, digits and _ . + -: it becomes a folder"
                raise ValueError(msg)

    def all_rows(self) -> dict[str, RowSpec]:
        """The rows, then the controls."""
        return {**self.rows, "average": self.average, "random": self.random}


def read_ablation(path: str | Path) -> Ablation:
    """Read an ablation's YAML.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no mapping, or has unknown, missing or wrongly typed keys; the message names them.
    """
    check_recipe(str(path), "name, title, base and rows")
    values: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    unknown = sorted(set(values) - {f.name for f in fields(Ablation)})
    if unknown:
        msg = f"{path}: got the keys {unknown}, expected some of {[f.name for f in fields(Ablation)]}"
        raise ValueError(msg)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--ablation", type=Ablation)
    try:
        return parser.instantiate(parser.parse_object({"ablation": values}))["ablation"]
    except (ArgumentError, TypeError, ValueError) as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error
