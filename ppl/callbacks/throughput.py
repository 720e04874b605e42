"""How fast training is, and where its time and memory go."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import astuple, dataclass, fields
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ppl.batches import InputSpec
from ppl.callbacks.loader_wait import LoaderWait
from ppl.callbacks.peak_flops import peak_flops
from ppl.functional.flops import Counts


@runtime_checkable
class Meter(Protocol):
    """`ppl.modules.work_meter.WorkMeter`."""

    is_counting: bool

    def read(self) -> Counts:
        """Counts since the last reading; waits for the device."""
        ...

    def detach(self) -> None:
        """End it."""
        ...


@runtime_checkable
class Metered(Protocol):
    """A module whose work can be counted."""

    @property
    def input_spec(self) -> InputSpec:
        """Says which token stands for a visual one."""
        ...

    def work_meter(self) -> Meter:
        """Make a meter."""
        ...


@dataclass
class Interval:
    """What happened since the last line of the logger, in this process or in all."""

    batches: float = 0.0
    samples: float = 0.0
    tokens: float = 0.0
    positions: float = 0.0
    visual_tokens: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    """Of training; validation is left out."""
    waited: float = 0.0
    """Seconds of them."""


class Device(NamedTuple):
    """What the numbers are seen against."""

    number: int
    peak_flops: float | None
    peak_memory_gib: float
    waits_are_known: bool = True


class Throughput(Callback):
    """Log, every time the loggers do, the means since the last time, of all processes together.

    Under ``throughput/``: ``tokens_per_second`` (text and visual, no padding), ``visual_tokens_per_second``,
    ``samples_per_second``, ``batches_per_second``; ``padding``: its share of positions; ``data_wait``: the share of
    time in which training waited for the loader (not where the recipe has a profiler of its own);
    ``peak_memory_gib``: of the worst device, or of the worst process where there is none;
    ``teraflops_per_device``: model operations a second as `ppl.modules.work_meter` counts them; ``mfu``: their share of
    the device's dense bfloat16 peak (Chowdhery et al. 2022, arXiv:2204.02311, appendix B), whatever the precision, and
    only where that peak is known. An alignment run has no language model, so only batches, wait and memory.

    The device is waited for once an interval, never in a step.
    """

    def __init__(self) -> None:
        self._meter: Meter | None = None
        self._placeholder = -1
        self._visual: list[Tensor] = []
        """Of each batch, on its device."""
        self._interval = Interval()
        self._since: float | None = None
        self._waited = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the meter, while parameters are whole."""
        if stage == "fit" and isinstance(pl_module, Metered):
            self._meter = pl_module.work_meter()
            inputs = pl_module.input_spec
            self._placeholder = int(inputs.tokenizer.convert_tokens_to_ids(inputs.image_token))  # pyright: ignore[reportArgumentType]  one token

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._interval = Interval()
        self._resume(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Count the step's work."""
        if self._meter is not None:
            self._meter.is_counting = True

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Any,  # noqa: ANN401  of a meter's module, a `Batch`
        batch_idx: int,
    ) -> None:
        """Note the batch; log where the loggers do."""
        interval = self._interval
        interval.batches += 1
        if self._meter is not None:
            self._meter.is_counting = False
            interval.samples += len(batch["ids"])
            self._visual.append((batch["input_ids"] == self._placeholder).sum())
        # As Lightning's own monitors ask; the latter: in the middle of accumulated batches nothing is logged.
        if trainer._logger_connector.should_update_logs and not trainer.fit_loop._should_accumulate():
            self._pause(trainer)
            metrics = _metrics(*_joined(self._interval, trainer))
            pl_module.log_dict({f"throughput/{k}": v for k, v in metrics.items()}, prog_bar=True, batch_size=1)
            self._interval = Interval()
            self._resume(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        if self._since is not None:
            self._pause(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start it again."""
        if not trainer.sanity_checking:
            self._resume(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the meter off."""
        if self._meter is not None:
            self._meter.detach()
        self._meter = self._since = None

    def _pause(self, trainer: Trainer) -> None:
        """Add the time up to here, once the device has done what it was given."""
        interval = self._interval
        if self._meter is not None:
            counts = self._meter.read()
            interval.tokens += counts.tokens
            interval.positions += counts.positions
            interval.flops += counts.flops
            interval.visual_tokens += int(torch.stack(self._visual).sum()) if self._visual else 0
            self._visual = []
        now = time.perf_counter()
        interval.seconds += 0.0 if self._since is None else now - self._since
        interval.waited += _waited(trainer) - self._waited
        self._since = None

    def _resume(self, trainer: Trainer) -> None:
        self._since = time.perf_counter()
        self._waited = _waited(trainer)


def _waited(trainer: Trainer) -> float:
    wait = _loader_wait(trainer)
    return 0.0 if wait is None else wait.seconds


def _loader_wait(trainer: Trainer) -> LoaderWait | None:
    profiler = getattr(trainer, "profiler", None)  # set by a connector, unseen by type checkers
    return profiler if isinstance(profiler, LoaderWait) else None


def _joined(interval: Interval, trainer: Trainer) -> tuple[Interval, Device]:
    """All processes' intervals in one, with their mean time; the device of the most memory."""
    device, count = trainer.strategy.root_device, trainer.world_size
    memory, waits = _peak_memory_gib(device), _loader_wait(trainer) is not None
    if count > 1:
        sums = torch.tensor(astuple(interval), dtype=torch.float64, device=device)
        sums = trainer.strategy.reduce(sums, reduce_op="sum")
        interval = Interval(**dict(zip((f.name for f in fields(Interval)), sums.tolist(), strict=True)))
        interval.seconds, interval.waited = interval.seconds / count, interval.waited / count
        memory = float(trainer.strategy.reduce(torch.tensor(memory, device=device), reduce_op="max"))
    return interval, Device(count, peak_flops(device), memory, waits)


def _metrics(interval: Interval, device: Device) -> dict[str, float]:
    seconds = interval.seconds
    metrics = {}
    if interval.tokens:
        flops = interval.flops / seconds / device.number
        metrics |= {
            "tokens_per_second": interval.tokens / seconds,
            "visual_tokens_per_second": interval.visual_tokens / seconds,
            "samples_per_second": interval.samples / seconds,
            "padding": 1 - interval.tokens / interval.positions,
            "teraflops_per_device": flops / 1e12,
        }
        metrics |= {} if device.peak_flops is None else {"mfu": flops / device.peak_flops}
    metrics |= {"batches_per_second": interval.batches / seconds, "peak_memory_gib": device.peak_memory_gib}
    return metrics | ({"data_wait": interval.waited / seconds} if device.waits_are_known else {})


def _peak_memory_gib(device: torch.device) -> float:
    """Most memory held at once since the start: what torch allocated on a GPU, else this process's resident pages."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
