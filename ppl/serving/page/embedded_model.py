"""The model of the embedded world, trained where there is none yet: with ppl's own recipes, as a user would."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ppl.recipe_folder import recipe_folder

_SEEDS = (0, 1000, 2000)
_POINTS = {"shape": 0.5, "colour": 0.5, "both": 0.75}
"""Least share of held-out frames in which the most relevant patch is on what a question names, by how it names it."""


def embedded_model(checkpoint: Path, say: Callable[[str], object]) -> None:
    """Train the model of a checkpoint, if that is not there yet.

    Aligns a vision tower and a text tower, then tunes a language model with weighted pooling; what was finished is not
    done again.

    Args:
        checkpoint: ``FOLDER/weighted/checkpoints/last.ckpt``, as `make demo` names it; alignments go to ``FOLDER``.
        say: Told what comes next.

    Raises:
        ValueError: Training failed.
    """
    if checkpoint.is_file():
        return
    run = checkpoint.parents[1]
    say(f"There is no model at {checkpoint} yet. It is trained now, once: a few minutes on two cores.")
    alignment = _aligned(run.parent, say)
    say("2 of 2: tuning the language model with weighted pooling")
    _fit("tiny_sft", run, f"--model.alignment={alignment}")


def _aligned(folder: Path, say: Callable[[str], object]) -> Path:
    for seed in _SEEDS:
        run = folder / f"align_{seed}"
        weights = run / "alignment.safetensors"
        if not weights.is_file():
            say(f"1 of 2: aligning the vision tower and the text tower, seed {seed}")
            _fit("tiny_align", run, f"--seed_everything={seed}", f"--data.seed={seed}")
        if _points(run):
            return weights.absolute()
        say(f"seed {seed} points at what is asked about too seldom")
    msg = (
        f"got no alignment that points well enough, of the seeds {_SEEDS}, expected one; remove {folder} and try again"
    )
    raise ValueError(msg)


def _points(run: Path) -> bool:
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    metrics = [line["metrics"] for line in told if line["stage"] == "val"][-1]
    return all(metrics[f"val/pointing/{kind}"] >= least for kind, least in _POINTS.items())


def _fit(recipe: str, run: Path, *overrides: str) -> None:
    """Run ``ppl fit``, whose progress bar shows; recipes name other files from the folder that has them all."""
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-P", "-m", "ppl", "fit", "-c", f"recipes/experiments/{recipe}.yaml"]
    command += [f"--trainer.default_root_dir={run.absolute()}", *overrides]
    code = subprocess.run(command, cwd=recipe_folder().parent, check=False).returncode
    if code:
        msg = (
            f"`ppl fit` of {recipe} ended with status {code}, for the reason above; call this again to go on from there"
        )
        raise ValueError(msg)
