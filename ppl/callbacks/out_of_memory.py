"""Say which samples a step was at when memory ran out, how large they were, and what makes a step smaller."""

from __future__ import annotations

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ppl.batches import InputSpec

_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
_ADVICE = (
    "make steps smaller: data.batch_size down and trainer.accumulate_grad_batches up by the same factor; "
    "data.num_frames down or larger windows of the pooler; recipes/overlays/lora.yaml. `ppl plan` estimates the "
    "memory of a recipe before it runs"
)


class OutOfMemory(Callback):
    """Add to an error of the allocator what was being computed: each sample with its tokens and frames.

    The error itself goes on; it ends the run.
    """

    def __init__(self) -> None:
        self._batch: Any = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Add the note to the exception."""
        if not is_out_of_memory(exception):
            return
        where = f"step {trainer.global_step} of rank {trainer.global_rank}"
        if self._batch is None:
            exception.add_note(f"memory ran out outside of a batch, at {where}; {_ADVICE}")
            return
        lines = describe_batch(self._batch, getattr(pl_module, "input_spec", None))
        exception.add_note("\n".join([f"memory ran out in {where}, whose batch holds", *lines, _ADVICE]))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Hold on to the batch."""
        self._batch = batch

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Hold on to the batch."""
        self._batch = batch

    on_test_batch_start = on_predict_batch_start = on_validation_batch_start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Let go of it."""
        self._batch = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Let go of it."""
        self._batch = None

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device's or the host's allocator has raised it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def describe_batch(batch: Any, inputs: InputSpec | None) -> list[str]:  # noqa: ANN401  any batch
    """One line for each sample, the largest first; of batches of another kind, one for each tensor."""
    mask = batch.get("attention_mask") if isinstance(batch, dict) else None
    if not isinstance(mask, Tensor) or mask.ndim != 2 or not {"ids", "media"} <= batch.keys():
        tensors = batch.items() if isinstance(batch, dict) else []
        return [f"  {name}: {tuple(value.shape)}" for name, value in tensors if isinstance(value, Tensor)]
    # Counted on the host, as the device has no room. A packed row has several samples, numbered from 1.
    tokens = [int((row == each).sum()) for row in mask.cpu() for each in range(1, int(row.max()) + 1)]
    rows: list[tuple[int, str]] = []
    for place, count in enumerate(tokens):
        sample = place % len(batch["ids"])  # of preference pairs, the worse answers are behind the better ones
        media = [medium for medium in batch["media"] if medium.sample == sample]
        frames = sum(medium.num_frames for medium in media)
        visual = "" if inputs is None else f", {sum(map(inputs.num_visual_tokens, media))} of them visual"
        name = batch["ids"][sample]
        rows.append((count, f"  {name}: {count} tokens{visual}, {frames} frames and tiles of {len(media)} media"))
    lines = [line for _, line in sorted(rows, key=lambda row: -row[0])]
    return [*lines, f"  padded to {mask.shape[0]} x {mask.shape[1]} positions"]
