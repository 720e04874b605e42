import json
from unittest.mock import Mock

import pytest
import torch
from lightning import LightningModule, Trainer

from ppl.callbacks.metrics_writer import MetricsWriter


def trainer(folder, step=7, *, sanity_checking=False, is_global_zero=True, **metrics):
    """What the callback reads of a trainer."""
    return Mock(
        spec=Trainer,
        default_root_dir=str(folder),
        global_step=step,
        sanity_checking=sanity_checking,
        is_global_zero=is_global_zero,
        callback_metrics={name.replace("_", "/", 1): torch.tensor(value) for name, value in metrics.items()},
    )


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_one_line_a_stage_with_its_own_metrics(tmp_path):
    folder = tmp_path / "new"
    writer = MetricsWriter()
    writer.on_validation_end(trainer(folder, 2, train_loss=3.0, val_loss=0.5, val_accuracy=0.25), LightningModule())
    writer.on_test_end(trainer(folder, 4, val_loss=0.5, test_loss=1.5), LightningModule())
    assert lines(folder) == [
        {"stage": "val", "step": 2, "metrics": {"val/loss": 0.5, "val/accuracy": 0.25}},
        {"stage": "test", "step": 4, "metrics": {"test/loss": 1.5}},
    ]


@pytest.mark.parametrize("state", [{"sanity_checking": True}, {"is_global_zero": False}])
def test_the_sanity_check_and_other_processes_write_nothing(tmp_path, state):
    MetricsWriter().on_validation_end(trainer(tmp_path, val_loss=1.0, **state), LightningModule())
    assert not (tmp_path / "metrics.jsonl").exists()
