"""Write which test questions were answered right as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ppl.batches import BLANK, Batch


class AnswerWriter(Callback):
    """Write one line per test question to ``answers.jsonl`` in the run's folder (one file per process if several).

    A line holds ``id``, ``video`` (the identity of the row's first medium; without one, its id), ``category`` and
    ``correct``: enough for intervals that know which questions share a video.
    """

    def path(self, trainer: Trainer) -> Path:
        """The file this process writes."""
        path = Path(trainer.default_root_dir) / "answers.jsonl"
        return path if trainer.world_size == 1 else path.with_suffix(f".{trainer.global_rank}{path.suffix}")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start an empty file."""
        del pl_module
        path = self.path(trainer)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def on_test_batch_end(  # pyright: ignore[reportIncompatibleMethodOverride]  what SFTModule returns, not any output
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: dict[str, Tensor] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append one batch."""
        del pl_module, batch_idx, dataloader_idx
        if outputs is None:  # a module whose test judges no answers, such as the alignment's
            return
        videos = dict(zip(range(len(batch["ids"])), batch["ids"], strict=True))
        videos |= {medium.sample: medium.key or videos[medium.sample] for medium in reversed(batch["media"])}
        rows = zip(batch["ids"], videos.values(), batch["categories"], outputs["correct"].tolist(), strict=True)
        with self.path(trainer).open("a") as file:
            for i, video, category, correct in (row for row in rows if row[0] != BLANK):
                row = {"id": i, "video": video, "category": category, "correct": bool(correct)}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
