"""What a run was: its resolved recipe, and the program, machine and chance it ran with."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from ppl import __version__
from ppl.callbacks.source import source

_PACKAGES = ("torch", "torchvision", "lightning", "transformers", "peft", "numpy")


class RunRecord(SaveConfigCallback):
    """Save the recipe as ``config.yaml``, tell it to all loggers, and append a line to ``run.jsonl`` at each start.

    ``ppl fit -c RUN/config.yaml`` from the same working directory is the same run.
    """

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """On the first process."""
        recipe = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        for logger in trainer.loggers:
            logger.log_hyperparams(recipe)
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "run.jsonl").open("a") as file:
            file.write(json.dumps(describe(trainer, stage, recipe)) + "\n")


def describe(trainer: Trainer, stage: str, recipe: dict[str, Any]) -> dict[str, Any]:
    """Everything beside the recipe that decides what comes out."""
    data = (recipe.get("data") or {}).get("init_args", {})
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "stage": stage,
        "command": shlex.join(sys.argv),
        "working_directory": str(Path.cwd()),
        "seeds": {"seed_everything": recipe.get("seed_everything"), "data": data.get("seed")},
        "versions": {"python": platform.python_version(), "ppl": __version__} | {p: version(p) for p in _PACKAGES},
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "source": source(),
        "device": {"type": device.type, "name": name, "processes": trainer.world_size, "threads": _threads()},
        "precision": str(trainer.precision),
        "strategy": type(trainer.strategy).__name__,
    }


def _threads() -> dict[str, Any]:
    """Sums on a CPU depend on them."""
    return {"torch": torch.get_num_threads(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")}
