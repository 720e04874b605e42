"""Lightning's rich progress bar with what `Throughput` logs, in words that fit a line."""

from __future__ import annotations

import time
from collections.abc import Callable

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

_HOLD = 0.5
"""Seconds for which numbers stand: reading a loss waits for the device, which a fast step should not."""


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _share(value: float) -> str:
    return f"{value:.1%}"


_SHOWN: dict[str, tuple[str, Callable[[float], str]]] = {
    "throughput/tokens_per_second": ("tokens/s", _number),
    "throughput/visual_tokens_per_second": ("visual/s", _number),
    "throughput/samples_per_second": ("samples/s", _number),
    "throughput/padding": ("padding", _share),
    "throughput/data_wait": ("data wait", _share),
    "throughput/peak_memory_gib": ("peak GiB", _number),
    "throughput/mfu": ("MFU", _share),
}
_LEFT_OUT = ("v_num", "throughput/batches_per_second", "throughput/teraflops_per_device")
"""The bar has its own batches a second."""


class ThroughputBar(RichProgressBar):
    """A bar that stays after each epoch, and reads its numbers twice a second at most."""

    def __init__(self) -> None:
        super().__init__(leave=True)
        self._items: dict[str, int | str | float | dict[str, float]] = {}
        self._read_at = float("-inf")

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The numbers beside the bar; those of a moment ago if they were read then."""
        now = time.monotonic()
        if now - self._read_at < _HOLD:
            return self._items
        items = super().get_metrics(trainer, pl_module)
        self._items = {name: value for name, value in items.items() if name not in (*_SHOWN, *_LEFT_OUT)}
        for name, (label, write) in _SHOWN.items():
            value = items.get(name)
            if isinstance(value, int | float):
                self._items[label] = write(float(value))
        self._read_at = now
        return self._items

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the last numbers, not those of a moment ago."""
        self._read_at = float("-inf")
        super().on_train_epoch_end(trainer, pl_module)
