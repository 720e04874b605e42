"""Write what a run measured as JSON lines, beside its logger's files."""

from __future__ import annotations

import json
from pathlib import Path

from lightning import Callback, LightningModule, Trainer


class MetricsWriter(Callback):
    """Append one line per finished validation or test to ``metrics.jsonl`` in the run's folder."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append the validation's metrics; the sanity check before training is left out."""
        if not trainer.sanity_checking:
            self._append(trainer, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append the test's metrics."""
        self._append(trainer, "test")

    @staticmethod
    def _append(trainer: Trainer, stage: str) -> None:
        if not trainer.is_global_zero:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(stage)}
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"stage": stage, "step": trainer.global_step, "metrics": metrics}) + "\n")
