"""The embedded world's chain, run as a user would: every stage is the real CLI in a process of its own.

Align -> gate on pointing (another seed if it fails) -> instruction-tune with each pooler -> test on held-out videos.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEPS, BATCH_SIZE = 500, 64
POINTING_GATE = {"shape": 0.5, "colour": 0.5, "both": 0.75}
"""Least pointing accuracy on held-out frames, by how the question names its object."""
RETRY_OFFSET = 1000


class StageError(RuntimeError):
    """A stage exited with an error; the message ends with what it printed."""


@dataclass
class Cell:
    """One model to instruction-tune."""

    name: str
    pooler: str
    steps: int = STEPS
    overrides: tuple[str, ...] = ()


@dataclass
class Result:
    """What became of a cell."""

    cell: Cell
    folder: Path
    metrics: dict[str, float]
    """On the test split: questions never used while choosing anything."""
    seconds: dict[str, float]

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    def accuracies(self) -> dict[str, float]:
        prefix = "test/accuracy/"
        return {k.removeprefix(prefix): v for k, v in self.metrics.items() if k.startswith(prefix)}


@dataclass
class Alignment:
    """An alignment that passed the gate, and those that did not."""

    seed: int
    folder: Path
    pointing: dict[str, float]
    seconds: float
    failed: list[dict[str, float]] = field(default_factory=list)

    @property
    def weights(self) -> Path:
        return self.folder / "alignment.safetensors"


def ppl(*arguments: str, threads: int, log: Path) -> float:
    """Run ``ppl`` with its output in ``log``; return its seconds."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    with log.open("a") as output:
        command = [sys.executable, "-m", "ppl", *arguments]
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False).returncode
    if code:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        msg = f"`ppl {' '.join(arguments)}` exited with {code}; the end of {log}:\n{tail}"
        raise StageError(msg)
    return time.perf_counter() - start


def last_metrics(folder: Path, stage: str) -> dict[str, float]:
    """The newest metrics of a stage in a run's folder."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["metrics"] for line in lines if line["stage"] == stage][-1]


def align(folder: Path, seed: int, *, attempts: int = 3, threads: int = 2) -> Alignment:
    """Align with ``seed``; where the gate fails, again with another seed, and say so."""
    failed = []
    for attempt in range(attempts):
        tried = seed + attempt * RETRY_OFFSET
        run = folder / f"align_{tried}"
        shutil.rmtree(run, ignore_errors=True)
        seconds = ppl(
            "fit", "-c", "recipes/experiments/tiny_align.yaml", f"--seed_everything={tried}", f"--data.seed={tried}",
            f"--trainer.default_root_dir={run}", threads=threads, log=run / "log.txt",
        )  # fmt: skip
        metrics = last_metrics(run, "val")
        pointing = {k.removeprefix("val/pointing/"): v for k, v in metrics.items() if k.startswith("val/pointing/")}
        if all(pointing[kind] >= least for kind, least in POINTING_GATE.items()):
            return Alignment(tried, run, pointing, seconds, failed)
        failed.append({"seed": tried, **pointing})
    msg = f"no alignment of {attempts} passed the pointing gate {POINTING_GATE}; got {failed}"
    raise StageError(msg)


def tune(cell: Cell, alignment: Alignment, folder: Path, seed: int, *, threads: int = 1) -> Result:
    """Instruction-tune one cell and test it."""
    run = folder / cell.name
    shutil.rmtree(run, ignore_errors=True)
    recipe = (
        "-c", "recipes/experiments/tiny_sft.yaml", f"--seed_everything={seed}", f"--data.seed={seed}",
        f"--model.pooler={cell.pooler}", f"--model.alignment={alignment.weights}",
        f"--data.num_questions={cell.steps * BATCH_SIZE}", f"--data.batch_size={BATCH_SIZE}",
        f"--trainer.default_root_dir={run}", *cell.overrides,
    )  # fmt: skip
    log = run / "log.txt"
    seconds = {"train": ppl("fit", *recipe, threads=threads, log=log)}
    checkpoint = run / "checkpoints" / "last.ckpt"
    seconds["test"] = ppl("test", *recipe, f"--ckpt_path={checkpoint}", threads=threads, log=log)
    return Result(cell, run, last_metrics(run, "test"), seconds)


def tune_all(cells: list[Cell], alignment: Alignment, folder: Path, seed: int) -> list[Result]:
    """Tune the cells, two at a time, one thread each: two threads barely speed up one such small model."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda cell: tune(cell, alignment, folder, seed), cells))


WEIGHTED = Cell("weighted", "recipes/parts/poolers/weighted.yaml")
WEIGHTED_BARE = Cell(
    "weighted_no_positions", "recipes/parts/poolers/weighted.yaml", overrides=("--model.positions=null",)
)
AVERAGE = Cell("average", "recipes/parts/poolers/average.yaml")
AVERAGE_LONG = Cell("average_4x", "recipes/parts/poolers/average.yaml", 4 * STEPS)
