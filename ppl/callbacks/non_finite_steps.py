"""Skip optimiser steps whose loss or gradient is not finite, on all ranks together, and keep their batches."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ppl.callbacks.kept_batch import KeptBatch, batch_ids, current_seed, write_batch
from ppl.callbacks.preemption import save_now

_log = logging.getLogger(__name__)


@dataclass
class _MicroBatch:
    batch: Any
    seed: int
    loss: Tensor | None = None
    """None: there was no backward pass."""


class NonFiniteSteps(Callback):
    """Take no optimiser step from a NaN or an infinity: weights, moments and decay stay as they were, bit for bit.

    Before each step, losses and gradients of all ranks are looked at. If any is not finite, every rank drops its
    gradients, so that the optimiser passes over all of them; learning rates and the count of steps go on. The
    batches whose loss was not finite (or, if every loss was finite, all that the step saw) are written to
    ``non_finite/`` in the run's folder, for `ppl replay`. ``train/skipped_steps`` is logged.

    With gradients accumulated, a step's batches stay in memory until it is taken. With ``16-mixed`` only losses are
    looked at: infinite gradients are how the loss scaler finds its scale, and it skips their steps itself.

    Args:
        max_skipped: So many skipped steps, in the whole run with its resumptions, save a checkpoint and stop it.
    """

    def __init__(self, max_skipped: int = 20) -> None:
        if max_skipped < 1:
            msg = f"got max_skipped={max_skipped}, expected at least 1 (1 stops at the first)"
            raise ValueError(msg)
        self.max_skipped = max_skipped
        self.skipped = 0
        self._batches: list[_MicroBatch] = []
        """What the coming step has seen so far."""
        self._just_skipped = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what led to no step."""
        self._forget()

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401  any batch
        batch_idx: int,
    ) -> None:
        """Hold on to the batch until its step is taken."""
        self._batches.append(_MicroBatch(batch, current_seed()))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note the loss; it is not waited for."""
        self._batches[-1].loss = loss.detach()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Look at losses and gradients, and drop the gradients of a bad step."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        losses = [m.loss for m in self._batches if m.loss is not None]
        losses_are_finite = not losses or bool(torch.stack(losses).isfinite().all())  # the one wait for the device
        has_scaler = getattr(trainer.precision_plugin, "scaler", None) is not None
        here = not losses_are_finite or not (has_scaler or gradients_are_finite(parameters))
        if trainer.strategy.reduce_boolean_decision(here, all=False):
            for parameter in parameters:
                parameter.grad = None
            self.skipped += 1
            self._just_skipped = True
            self._keep(trainer, losses_are_finite)
        self._forget()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Log the count, and stop at the limit.

        Raises:
            ValueError: It is reached.
        """
        pl_module.log("train/skipped_steps", float(self.skipped), rank_zero_only=True, batch_size=1)
        stops, self._just_skipped = self._just_skipped and self.skipped >= self.max_skipped, False
        if stops:
            path = save_now(trainer, "last-stopped")
            msg = (
                f"got {self.skipped} steps with a loss or gradient that is not finite, expected fewer than max_skipped="
                f"{self.max_skipped}; their batches are in {_folder(trainer)}, the weights in {path}: see what `ppl "
                "replay` says of them, then lower the learning rate, or leave those samples out"
            )
            raise ValueError(msg)

    def state_dict(self) -> dict[str, int]:
        """How many were skipped; the same on every rank."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Count on from there."""
        self.skipped = state_dict["skipped"]

    def _keep(self, trainer: Trainer, losses_are_finite: bool) -> None:
        blamed = self._batches
        if trainer.strategy.reduce_boolean_decision(not losses_are_finite, all=False):
            blamed = [m for m in blamed if m.loss is not None and not m.loss.isfinite().all()]
        samples: list[str] = []
        for index, micro in enumerate(blamed):
            loss = None if micro.loss is None else micro.loss.item() * trainer.accumulate_grad_batches
            notes = {"step": trainer.global_step, "rank": trainer.global_rank, "loss": str(loss)}
            name = f"step_{trainer.global_step}_rank_{trainer.global_rank}_batch_{index}"
            write_batch(_folder(trainer) / name, KeptBatch(micro.batch, micro.seed, notes))
            samples += [f"{each} (loss {loss})" for each in batch_ids(micro.batch)]
        if blamed:
            _log.warning(
                f"step {trainer.global_step} skipped, number {self.skipped}; the run stops at {self.max_skipped}: a "
                f"loss or gradient is not finite; {', '.join(samples)}, kept in {_folder(trainer)} for `ppl replay`"
            )

    def _forget(self) -> None:
        self._batches = []


def gradients_are_finite(parameters: list[torch.nn.Parameter]) -> bool:
    """Whether no gradient holds a NaN or an infinity; of sharded ones, this rank's shards."""
    found = [p.grad for p in parameters if p.grad is not None]
    local = [grad.to_local() if isinstance(grad, DTensor) else grad for grad in found]
    shards = [grad for grad in local if grad.numel()]  # the maximum of nothing is an error
    return not shards or math.isfinite(torch.nn.utils.get_total_norm(shards, norm_type=math.inf).item())


def _folder(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "non_finite"
