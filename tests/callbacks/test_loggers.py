import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from ppl.callbacks import loggers
from ppl.callbacks.loggers import WandbLogger, run_loggers
from ppl.extras import MissingExtraError


def folders(found):
    return {type(logger): logger.log_dir.rstrip("/") for logger in found}


@pytest.mark.parametrize("own", [None, True])
def test_tensorboard_and_csv_by_default(own, tmp_path):
    root = str(tmp_path)
    assert folders(run_loggers(own, root, "fit")) == {TensorBoardLogger: root, CSVLogger: f"{root}/csv/version_0"}
    assert folders(run_loggers(own, root, "test"))[TensorBoardLogger] == f"{root}/test", "fit's recipe stays"


def test_false_is_none(tmp_path):
    assert run_loggers(False, str(tmp_path), "fit") == []


def test_others_come_beside_or_in_place_of_their_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: name)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    wandb, csv = WandbLogger(), CSVLogger(tmp_path, name="mine")
    found = run_loggers([wandb, csv], str(tmp_path), "fit")
    assert [type(logger) for logger in found] == [TensorBoardLogger, WandbLogger, CSVLogger]
    assert found[-1] is csv
    assert [type(logger) for logger in run_loggers(wandb, str(tmp_path), "fit")][-1] is WandbLogger


def test_without_wandb_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"without wandb, expected.* pip install 'ppl\[wandb\]', or leave"):
        WandbLogger()
