from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from lightning import LightningModule, Trainer

from ppl.batches import CountingLoader
from ppl.callbacks import loading_report
from ppl.callbacks.loading_report import LoadingReport


class Counted(CountingLoader):
    def __init__(self, **metrics):
        self.named = {f"data/{name}": value for name, value in metrics.items()}

    def metrics(self):
        return self.named


def trainer(loader):
    return Mock(spec=Trainer, train_dataloader=loader, default_root_dir="runs/x")


def test_counts_are_logged_each_step():
    module = Mock(spec=LightningModule)
    LoadingReport().on_train_batch_end(trainer(Counted(padding=0.25, bad_samples=2.0)), module, None, None, 0)
    assert [call.args for call in module.log.call_args_list] == [("data/padding", 0.25), ("data/bad_samples", 2.0)]


def test_replaced_samples_are_told_in_the_end():
    with pytest.warns(UserWarning, match="2 samples could not be loaded and were replaced .* runs/x/bad_samples.jsonl"):
        LoadingReport().on_train_end(trainer(Counted(padding=0.25, bad_samples=2.0)), Mock(spec=LightningModule))


def test_without_bad_samples_nothing_warns(recwarn):
    LoadingReport().on_train_end(trainer(Counted(padding=0.25, bad_samples=0.0)), Mock(spec=LightningModule))
    assert not recwarn.list


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({"padding": 0.25}, "padding: 25.0% of all positions"),
        ({"padding": 0.0, "padding_unpacked": 0.41}, "padding: 0.0% of all positions; without packing 41.0%"),
    ],
)
def test_padding_is_told_with_and_without_packing(metrics, told, monkeypatch):
    lines = []
    monkeypatch.setattr(loading_report, "rank_zero_info", lines.append)
    LoadingReport().on_train_end(trainer(Counted(**metrics)), Mock(spec=LightningModule))
    assert lines == [told]


@pytest.mark.parametrize("loader", [[1, 2], SimpleNamespace(metrics=dict, report=None)])
def test_other_loaders_have_no_report(loader):
    module = Mock(spec=LightningModule)
    LoadingReport().on_train_batch_end(trainer(loader), module, None, None, 0)
    LoadingReport().on_train_end(trainer(loader), module)
    module.log.assert_not_called()
