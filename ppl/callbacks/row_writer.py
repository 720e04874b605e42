"""Write the answers to benchmark questions as they come, one file a process."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from ppl.evaluation.rows import from_line, read_rows, to_line


class RowWriter(Callback):
    """Append a line to ``rows-{rank}.jsonl`` in the run's folder for each question that is answered.

    Batches without ``rows``, which are no benchmark's, are passed over. A line is on the disk before the next batch is
    asked: a run that is killed and started again goes on behind it.
    """

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a last line that a killed run left without its end, or cut it off if it is half-written."""
        file = _file(trainer)
        if not _writes(pl_module) or not file.exists():
            return
        written = file.read_bytes()
        if written.endswith(b"\n"):
            return
        list(read_rows(file))  # anything else that is wrong with it is an error
        whole = written.rfind(b"\n") + 1
        try:
            from_line(written[whole:])
        except ValueError:
            os.truncate(file, whole)  # in one step: other processes may be reading it
        else:  # its question counts as answered, and is not asked again
            with file.open("ab") as stream:
                stream.write(b"\n")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401  any module's
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append the batch's answers."""
        del batch_idx, dataloader_idx
        if "rows" not in batch or not _writes(pl_module):
            return
        file = _file(trainer)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            for row, said in zip(map(from_line, batch["rows"]), outputs, strict=True):
                times = {**row.milliseconds, **said.get("milliseconds", {})}
                stream.write(to_line(replace(row, text=said["prediction"], milliseconds=times)))
            stream.flush()
            os.fsync(stream.fileno())


def _file(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / f"rows-{trainer.global_rank}.jsonl"


def _writes(pl_module: LightningModule) -> bool:
    """Of processes that cut layers between them, and so answer the same questions, the first."""
    mesh = pl_module.device_mesh
    return (
        mesh is None
        or "tensor_parallel" not in (mesh.mesh_dim_names or ())
        or mesh["tensor_parallel"].get_local_rank() == 0
    )
