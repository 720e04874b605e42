"""Note losses that stand out from those before them."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ppl.callbacks.kept_batch import batch_ids

_log = logging.getLogger(__name__)
_DEVIATIONS_OF_MAD = 1.4826
"""Standard deviations of a normal distribution in one median absolute deviation."""


class LossSpikes(Callback):
    """Write batches whose loss is far above its recent median to ``loss_spikes.jsonl`` in the run's folder.

    Far is in standard deviations, estimated from the median absolute deviation, which the spikes themselves do not
    move (Leys et al. 2013, "Detecting outliers: Do not use standard deviation around the mean, use absolute deviation
    around the median"). Losses are fetched from the device every ``log_every_n_steps`` batches, so that no step waits.
    Each rank looks at its own; the number of spikes so far is logged as ``train/loss_spikes``.

    Args:
        window: Losses before a batch that it is compared with.
        threshold: Standard deviations above their median that make a spike.
        min_losses: Losses that must be known first.
    """

    def __init__(self, window: int = 200, threshold: float = 8.0, min_losses: int = 50) -> None:
        if not 2 <= min_losses <= window:
            msg = f"got min_losses={min_losses} and window={window}, expected 2 <= min_losses <= window"
            raise ValueError(msg)
        self.threshold = threshold
        self.min_losses = min_losses
        self.spikes = 0
        self._recent: deque[float] = deque(maxlen=window)
        self._pending: list[tuple[int, list[str], Tensor]] = []
        """Step, samples and loss of batches not looked at yet."""

    def path(self, trainer: Trainer) -> Path:
        """The file this process writes."""
        path = Path(trainer.default_root_dir) / "loss_spikes.jsonl"
        return path if trainer.world_size == 1 else path.with_suffix(f".{trainer.global_rank}{path.suffix}")

    def on_train_batch_end(  # pyright: ignore[reportIncompatibleMethodOverride]  what Lightning does hand over
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Mapping[str, Any] | None,
        batch: Any,  # noqa: ANN401  any batch
        batch_idx: int,
    ) -> None:
        """Note the loss; look at the noted ones now and then."""
        if outputs and isinstance(outputs.get("loss"), Tensor):
            loss = outputs["loss"].detach() * trainer.accumulate_grad_batches  # Lightning has divided it
            self._pending.append((trainer.global_step, batch_ids(batch), loss))
        if len(self._pending) >= max(trainer.log_every_n_steps, 1):  # pyright: ignore[reportAttributeAccessIssue]
            self._look(trainer)
        pl_module.log("train/loss_spikes", float(self.spikes), rank_zero_only=True, batch_size=1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what is left."""
        self._look(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Recent losses (the first rank's) and the count."""
        return {"spikes": self.spikes, "recent": list(self._recent)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare with what was before."""
        self.spikes = state_dict["spikes"]
        self._recent.clear()
        self._recent.extend(state_dict["recent"])

    def _look(self, trainer: Trainer) -> None:
        if not self._pending:
            return
        losses = torch.stack([loss.float() for _, _, loss in self._pending]).tolist()
        for (step, ids, _), loss in zip(self._pending, losses, strict=True):
            if loss - loss != 0:  # NaN or infinite: those steps are skipped and counted elsewhere
                continue
            if len(self._recent) >= self.min_losses:
                middle, spread = center_and_spread(list(self._recent))
                if loss > middle + self.threshold * spread:
                    self._tell(trainer, {"step": step, "loss": loss, "median": middle, "deviation": spread, "ids": ids})
            self._recent.append(loss)
        self._pending = []

    def _tell(self, trainer: Trainer, spike: dict[str, Any]) -> None:
        self.spikes += 1
        path = self.path(trainer)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(spike, ensure_ascii=False) + "\n")
        _log.warning("loss spike: " + ", ".join(f"{name} {value}" for name, value in spike.items()))


def center_and_spread(losses: list[float]) -> tuple[float, float]:
    """Median, and the standard deviation that the median absolute deviation stands for (at least 1e-3 of the median).

    The floor keeps losses that are all but equal from making a spike of any other.
    """
    middle = median(losses)
    return middle, max(_DEVIATIONS_OF_MAD * median(abs(loss - middle) for loss in losses), 1e-3 * abs(middle))
