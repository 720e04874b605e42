"""From finished cells to an ablation's report."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from ppl.ablation.cell import Job, outcome
from ppl.ablation.commit import commit
from ppl.ablation.report import write_report
from ppl.ablation.results import CellResult, Provenance, Row, write_results
from ppl.ablation.spec import Ablation
from ppl.ablation.stages import measured

_PACKAGES = ("ppl", "torch", "transformers", "lightning", "open_clip_torch")


def collect(jobs: Sequence[Job]) -> list[CellResult]:
    """The results that there are, failures included, with the stage times of those that were measured."""
    found = [(job, outcome(job)) for job in jobs]
    return [replace(result, stage_ms=measured(job)) for job, result in found if result is not None]


def report(ablation: Ablation, root: Path, jobs: Sequence[Job], command: Sequence[str]) -> None:
    """Write results.jsonl and everything made from it."""
    results = collect(jobs)
    write_results(root / "results.jsonl", results)
    rows = [
        Row(name, spec.title or name, spec.published, control=name in ("average", "random"))
        for name, spec in ablation.all_rows().items()
    ]
    provenance = Provenance(
        title=ablation.title,
        command=shlex.join(["ppl", *command[1:]]),
        commit=", ".join(sorted({result.commit for result in results})) or commit(),
        seeds=tuple(dict.fromkeys(job.seed for job in jobs)),
        description=ablation.description,
        versions={"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
    )
    write_report(root, rows, results, provenance)
