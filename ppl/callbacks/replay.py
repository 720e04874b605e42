"""Compute one training step of a kept batch again, and find where it stops being finite."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from lightning import LightningModule
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from ppl.callbacks.kept_batch import KeptBatch, batch_ids

_SHOWN = 10


def replay(module: LightningModule, kept: KeptBatch) -> list[str]:
    """Loss, the first submodule whose output is not finite, and the parameters whose gradients are not, as lines.

    The module is put into training mode and torch is seeded as it was, so that on the same device dropout falls the
    same. The outcome is the run's if the weights are those of the step.
    """
    weights = [name for name, each in module.named_parameters() if not each.isfinite().all()]
    module.train().zero_grad(set_to_none=True)
    torch.manual_seed(kept.seed)
    with _without_trainer_warning(), _first_bad_output(module) as bad_outputs:
        loss = module.training_step(move_data_to_device(kept.batch, module.device), 0)
        assert isinstance(loss, Tensor), "so do all modules of ppl"
        loss.backward()
    found = [(name, each.grad) for name, each in module.named_parameters() if each.grad is not None]
    gradients = [name for name, grad in found if not grad.isfinite().all()]
    return [
        f"samples: {', '.join(batch_ids(kept.batch)) or 'unnamed'}",
        f"in the run: {', '.join(f'{name} {value}' for name, value in kept.notes.items())}",
        f"loss: {loss.item()}" + ("" if math.isfinite(loss.item()) else ", not finite"),
        f"weights that are not finite: {_shortened(weights)}",
        f"first output that is not finite: {bad_outputs[0] if bad_outputs else 'none'}",
        f"gradients that are not finite: {_shortened(gradients)} of {len(found)}",
    ]


def _shortened(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@contextmanager
def _without_trainer_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are trying to `self.log\\(\\)` but the `self.trainer` reference")
        yield


@contextmanager
def _first_bad_output(module: nn.Module) -> Iterator[list[str]]:
    """Collect the names of submodules in the order in which their outputs stop being finite, innermost first."""
    bad: list[str] = []
    handles = [each.register_forward_hook(_note(name, bad)) for name, each in module.named_modules() if name]
    try:
        yield bad
    finally:
        for handle in handles:
            handle.remove()


def _note(name: str, bad: list[str]) -> Callable[[nn.Module, object, object], None]:
    def hook(module: nn.Module, inputs: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor) and first.is_floating_point() and not first.isfinite().all():
            bad.append(f"{name} ({type(module).__name__})")

    return hook
