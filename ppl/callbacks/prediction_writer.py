"""Write the answers of ``ppl predict`` as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from ppl.batches import Batch


class PredictionWriter(BasePredictionWriter):
    """Append each batch's answers to ``predictions.jsonl`` (one file per process if there are several).

    Answers to benchmark questions are `RowWriter`'s.

    Args:
        output: File to write; null: ``predictions.jsonl`` in the run's folder.
    """

    def __init__(self, output: str | None = None) -> None:
        super().__init__(write_interval="batch")
        self.output = output

    def path(self, trainer: Trainer) -> Path:
        """The file this process writes."""
        path = Path(self.output) if self.output else Path(trainer.default_root_dir) / "predictions.jsonl"
        return path if trainer.world_size == 1 else path.with_suffix(f".{trainer.global_rank}{path.suffix}")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what a run before this one wrote."""
        del pl_module
        path = self.path(trainer)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: list[dict[str, str]],
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Append one batch."""
        del pl_module, batch_indices, batch_idx, dataloader_idx
        if "rows" in batch:
            return
        with self.path(trainer).open("a") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in prediction)
