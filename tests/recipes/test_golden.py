"""The first losses of the smoke recipe, as committed: a refactoring that changes them changed the mathematics.

After a change that is meant to change them: ``python -m tests.recipes.test_golden``, and say why in the commit.
"""

import csv
import os
import sys
import tempfile
from pathlib import Path

import pytest

LOSSES = Path(__file__).parent / "losses" / "tiny_sft.txt"
STEPS = 8
# Eight steps of Adam on float32: other CPUs sum in another order, and differ from the fifth digit on.
TOLERANCE = 1e-3


def losses(folder):
    """Train and return the loss of each step."""
    from tests.recipes.discovery import QUIET, SMALL_QUESTIONS, run

    run(
        *("fit", "-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml"),
        *("--model.alignment=null", *SMALL_QUESTIONS, *QUIET, f"--trainer.default_root_dir={folder}"),
        *(f"--data.num_questions={4 * STEPS}", f"--trainer.max_steps={STEPS}", "--trainer.limit_val_batches=0"),
        *("--trainer.logger=lightning.pytorch.loggers.CSVLogger", f"--trainer.logger.save_dir={folder}"),
        *("--trainer.log_every_n_steps=1", "--trainer.callbacks=null"),
    )
    (file,) = Path(folder).rglob("metrics.csv")
    with file.open() as rows:
        return [float(row["train/loss"]) for row in csv.DictReader(rows) if row["train/loss"]]


def test_the_losses_are_the_committed_ones(tmp_path):
    golden = [float(line) for line in LOSSES.read_text().splitlines() if not line.startswith("#")]
    assert len(golden) == STEPS
    assert losses(tmp_path) == pytest.approx(golden, rel=TOLERANCE)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    os.chdir(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory() as scratch:
        found = losses(scratch)
    lines = [f"# {STEPS} steps of tests/recipes/test_golden.py; write anew with: python -m tests.recipes.test_golden"]
    LOSSES.write_text("\n".join([*lines, *(f"{loss:.6f}" for loss in found)]) + "\n")
    sys.stdout.write(LOSSES.read_text())
