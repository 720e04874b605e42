"""One cell of an ablation, in a process of its own: ``python -m ppl.ablation.cell PARENT job.json``."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ppl.ablation.commit import commit
from ppl.ablation.results import CellResult
from ppl.runtime import configure_process

if TYPE_CHECKING:
    from lightning import Trainer


@dataclass(frozen=True)
class Job:
    """What a cell's process is told."""

    row: str
    seed: int
    root: str
    """Folder of the ablation."""
    folder: str
    """Folder of the cell, relative to ``root``."""
    fit: list[str]
    """Words for `ppl`, subcommand included."""
    test: list[str]
    fingerprint: str
    """Digest of everything the cell depends on; a finished cell with another one is stale."""

    @property
    def path(self) -> Path:
        """Folder of the cell."""
        return Path(self.root) / self.folder

    def write(self) -> Path:
        """Write the job into its cell's folder; returns the file."""
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / "job.json"
        file.write_text(json.dumps(asdict(self), indent=1))
        return file


def read_job(path: str | Path) -> Job:
    """Read what `Job.write` wrote."""
    return Job(**json.loads(Path(path).read_text()))


def finish(job: Job, result: CellResult) -> None:
    """Write the cell's result, whole or not at all."""
    job.path.mkdir(parents=True, exist_ok=True)
    partial = job.path / "result.json.partial"
    partial.write_text(json.dumps({"fingerprint": job.fingerprint, "result": result.as_dict()}, indent=1))
    partial.replace(job.path / "result.json")


def begun(job: Job) -> CellResult:
    """A result that says no more than which cell it is."""
    commands = [["ppl", *words] for words in (job.fit, job.test) if words]
    return CellResult(job.row, job.seed, job.folder, command="\n".join(map(shlex.join, commands)), commit=commit())


def outcome(job: Job) -> CellResult | None:
    """The cell's result or failure, unless something that it depends on has changed since."""
    file = job.path / "result.json"
    if not file.exists():
        return None
    content = json.loads(file.read_text())
    return CellResult(**content["result"]) if content["fingerprint"] == job.fingerprint else None


def finished(job: Job) -> CellResult | None:
    """The cell's result; None if it has to be run (again)."""
    result = outcome(job)
    return result if result is not None and not result.error else None


def run_cell(job: Job) -> CellResult:
    """Train, test, and describe what came out; a preparation is only trained."""
    from ppl.ablation.description import describe
    from ppl.training_cli import run_training_cli

    start = time.perf_counter()
    training = run_training_cli(job.fit)
    trained = time.perf_counter()
    checkpoint = getattr(training.trainer.checkpoint_callback, "best_model_path", "")
    if job.test and not checkpoint:
        msg = "the base recipe saved no checkpoint, expected one to test: give it a ModelCheckpoint callback"
        raise ValueError(msg)
    steps = training.trainer.global_step
    keep_recipe(training.trainer, job.path / "recipe.yaml")
    done = replace(begun(job), checkpoint=os.path.relpath(checkpoint, job.root) if checkpoint else "", steps=steps)
    if not job.test:
        return done
    testing = run_training_cli([*job.test, f"--ckpt_path={checkpoint}"])
    tested = time.perf_counter()
    keep_recipe(testing.trainer, job.path / "test_recipe.yaml")
    return replace(
        done,
        peak_memory_mib=peak_memory_mib(),
        seconds={"fit": trained - start, "test": tested - trained},
        **describe(testing, job.path),
    )


def keep_recipe(trainer: Trainer, path: Path) -> None:
    """Copy what the command line resolved to out of the logger's folder, where each run writes another one."""
    shutil.copyfile(Path(trainer.log_dir or trainer.default_root_dir) / "config.yaml", path)


def peak_memory_mib() -> float:
    """Most memory used so far: of the GPU if one was used, else of this process."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def end_with_parent(parent: int) -> None:
    """End this process when process ``parent``, which started it, is gone: a killed ablation leaves no cell running."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Run the job named on the command line; a failure is written down as the cell's result, and exits with 1."""
    end_with_parent(int(sys.argv[1]))
    configure_process()
    job = read_job(sys.argv[2])
    try:
        result = run_cell(job)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        finish(job, replace(begun(job), error=reason))
        sys.exit(1)
    finish(job, result)


if __name__ == "__main__":
    main()
