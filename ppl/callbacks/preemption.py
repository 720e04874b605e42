"""Save a checkpoint that resumes exactly when the run is told to stop."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

_NAME = "last-preempted"


class Preemption(Callback):
    """Answer SIGTERM, Ctrl-C and SLURM's warning between two steps, on all ranks together, wherever they arrive.

    Lightning saves in the signal's handler, in the middle of a step, and lets ranks meet there; a handler here only
    takes a note. After the step (or a batch of the validation), if any rank has one, all of them save
    ``last-preempted.ckpt`` beside the other checkpoints, which ``--ckpt_path=last`` finds, and end with status 128 +
    the signal's number. SLURM's warning goes to Lightning's own handler then: it saves ``hpc_ckpt_<n>.ckpt`` in the
    run's folder, which a job without ``--ckpt_path`` starts from by itself, and requeues the job;
    ``last-preempted.ckpt`` becomes a link to it. A second Ctrl-C stops at once.

    A run that ends removes these checkpoints once there is a newer one.
    """

    def __init__(self) -> None:
        self._received = 0
        self._requeue: dict[int, Callable[[int, FrameType | None], Any]] = {}
        """The signal that SLURM warns with, and Lightning's answer to it."""
        self._step = 0
        self._process = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the handlers; Lightning puts the earlier ones back when the trainer is torn down."""
        self._received, self._step, self._process = 0, trainer.global_step, os.getpid()
        if threading.current_thread() is not threading.main_thread():  # Python handles signals in no other
            return
        self._requeue = _slurm_handler(trainer)
        for number in (signal.SIGTERM, signal.SIGINT, *self._requeue):
            signal.signal(number, self._note)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Answer, unless gradients are still being accumulated."""
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            self._answer(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Answer in the middle of a validation; with averaged weights in the model's place, wait for its end."""
        averaged = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and not averaged:
            self._answer(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what a newer checkpoint has made useless."""
        saved = [Path(c.best_model_path) for c in _savers(trainer) if c.best_model_path]
        newest = max((path.stat().st_mtime for path in saved if path.exists()), default=0.0)
        for path in [_folder(trainer) / f"{_NAME}.ckpt", *_requeue_checkpoints(trainer)]:
            if trainer.is_global_zero and path.exists() and path.stat().st_mtime < newest:
                _remove(path)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a loader's worker, which inherits handlers
            return
        if number == signal.SIGINT == self._received:
            raise KeyboardInterrupt
        self._received = number
        told = f"\n{signal.Signals(number).name}: the run stops after this step and saves a checkpoint\n"
        os.write(2, told.encode())  # a stream may be in use where the signal arrived

    def _answer(self, trainer: Trainer) -> None:
        noted = torch.tensor(self._received, device=trainer.strategy.root_device)
        number = int(trainer.strategy.reduce(noted, reduce_op="max"))  # pyright: ignore[reportArgumentType]
        if not number:
            return
        if number in self._requeue:
            old = _requeue_checkpoints(trainer)
            self._requeue[number](number, None)
            if trainer.is_global_zero:
                _put_in_place_of(old, trainer)
        else:
            path = save_now(trainer, _NAME)
            rank_zero_info(f"saved {path}; the same command with --ckpt_path={path} goes on from there")
        raise SIGTERMException(128 + number)


def save_now(trainer: Trainer, name: str) -> Path:
    """Save a whole checkpoint beside the others, on all ranks together; returns its path."""
    path = _folder(trainer) / f"{name}.ckpt"
    trainer.save_checkpoint(path)
    return path


def _savers(trainer: Trainer) -> list[ModelCheckpoint]:
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]


def _folder(trainer: Trainer) -> Path:
    """Where ``--ckpt_path=last`` looks, if there is such a place."""
    folders = [saver.dirpath for saver in _savers(trainer) if saver.dirpath]
    return Path(folders[0]) if folders else Path(trainer.default_root_dir) / "checkpoints"


def _requeue_checkpoints(trainer: Trainer) -> list[Path]:
    return sorted(Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt"))


def _put_in_place_of(old: list[Path], trainer: Trainer) -> None:
    """Let ``--ckpt_path=last`` find what Lightning's handler has saved, and remove what it saved before."""
    (new,) = set(_requeue_checkpoints(trainer)) - set(old)
    link = _folder(trainer) / f"{_NAME}.ckpt"
    link.parent.mkdir(parents=True, exist_ok=True)
    for path in [link, *old]:
        _remove(path)
    link.symlink_to(os.path.relpath(new, link.parent))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _slurm_handler(trainer: Trainer) -> dict[int, Callable[[int, FrameType | None], Any]]:
    environment = trainer._accelerator_connector.cluster_environment  # no public way leads to it on one device
    if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
        return {}
    number = environment.requeue_signal
    handler = signal.getsignal(number) if number is not None else None
    return {int(number): handler} if number is not None and callable(handler) else {}
