from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from lightning import LightningModule, Trainer

from ppl.callbacks.progress_bar import ThroughputBar

NUMBERS = {
    "train/loss": 1.25,
    "throughput/tokens_per_second": 12345.6,
    "throughput/visual_tokens_per_second": 99.96,
    "throughput/samples_per_second": 3.14159,
    "throughput/batches_per_second": 1.0,
    "throughput/teraflops_per_device": 100.0,
    "throughput/padding": 0.054,
    "throughput/data_wait": 0.5,
    "throughput/peak_memory_gib": 71.25,
    "throughput/mfu": 0.4217,
}


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("ppl.callbacks.progress_bar.time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def shown(bar, **numbers):
    trainer = Mock(spec=Trainer, loggers=[], progress_bar_metrics=NUMBERS | numbers)
    return bar.get_metrics(trainer, Mock(spec=LightningModule))


def test_short_names_and_units(clock):
    assert shown(ThroughputBar()) == {
        "train/loss": 1.25,
        "tokens/s": "12,346",
        "visual/s": "100",
        "samples/s": "3.14",
        "padding": "5.4%",
        "data wait": "50.0%",
        "peak GiB": "71.2",
        "MFU": "42.2%",
    }


def test_numbers_stand_for_half_a_second(clock):
    """Reading a loss waits for the device."""
    bar = ThroughputBar()
    assert shown(bar)["train/loss"] == 1.25
    clock.now += 0.4
    assert shown(bar, **{"train/loss": 1.0})["train/loss"] == 1.25
    clock.now += 0.2
    assert shown(bar, **{"train/loss": 1.0})["train/loss"] == 1.0
