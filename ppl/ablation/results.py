"""What one cell of an ablation leaves behind, as a JSON line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Row:
    """One row of the grid, as the tables show it."""

    name: str
    title: str = ""
    published: str = ""
    """The papers' number, with its source: shown beside ours, never re-run."""
    control: bool = False
    """A random or average control: drawn differently, and never what the others are compared with."""


@dataclass(frozen=True)
class Provenance:
    """Where a grid's numbers come from."""

    title: str
    command: str
    commit: str
    seeds: tuple[int, ...]
    """In order; heat maps are drawn from the first."""
    description: str = ""
    """Plain text; an empty line starts a paragraph."""
    versions: dict[str, str] = field(default_factory=dict)
    """By package: python, torch, ..."""


class Answer(NamedTuple):
    """One test question of one cell."""

    id: str
    video: str
    """Questions about one video are not independent: intervals resample videos."""
    category: str
    correct: bool


@dataclass(frozen=True)
class CellResult:
    """One row of the grid under one seed; a failed cell has only ``row``, ``seed``, ``folder`` and ``error``."""

    row: str
    seed: int
    folder: str
    """Relative to the ablation's folder; holds answers.jsonl, log.txt, heatmap.png, the resolved recipe.yaml and
    test_recipe.yaml."""
    error: str = ""
    checkpoint: str = ""
    """The trained model, relative to the ablation's folder."""
    tokens: int = 0
    """Visual tokens of the first test medium."""
    steps: int = 0
    """Optimiser steps."""
    accuracy: dict[str, float] | None = None
    """Share of right answers by category, and their unweighted ``mean``."""
    stage_ms: dict[str, float] | None = None
    """Median milliseconds a question: decode, tower, pool, prefill, per_token."""
    peak_memory_mib: float = 0.0
    """Of training and testing, on the device that was used."""
    seconds: dict[str, float] | None = None
    """Wall clock: fit, test."""
    command: str = ""
    """What runs this cell alone."""
    commit: str = ""
    """Of the program that ran it."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def read_answers(path: str | Path) -> list[Answer]:
    """Read the ``answers.jsonl`` that a test run wrote."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [Answer(line["id"], line["video"], line["category"], line["correct"]) for line in lines]


def write_results(path: str | Path, results: Iterable[CellResult]) -> None:
    """Write one JSON line a cell."""
    Path(path).write_text("".join(json.dumps(result.as_dict()) + "\n" for result in results))
