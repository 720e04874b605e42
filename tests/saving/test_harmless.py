"""What torch would run must be refused before it does; what runs here would leave a folder behind."""

import os
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch.distributed import checkpoint

from ppl.saving.harmless import SHARDS, check_harmless, read_description, read_file
from ppl.strategies.fsdp1 import FSDP1Strategy
from ppl.strategies.fsdp2 import FSDP2Strategy

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # by writing in one process


class Malice:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


def saved(folder, value):
    state = {"weights": {"a": torch.arange(6.0), "b": torch.zeros(2, 3, dtype=torch.bfloat16)}, "rate": value}
    checkpoint.save(state, checkpoint_id=folder, no_dist=True)
    return folder


def bad_description(folder):
    (saved(folder, 0.1) / SHARDS).write_bytes(pickle.dumps(Malice()))
    return folder


def bad_file(path):
    torch.save({"state_dict": Malice()}, path)
    return path


MALICIOUS = {
    "a description": (bad_description, r"holds posix\.mkdir, expected only places and shapes of tensors"),
    "a value": (lambda folder: saved(folder, Malice()), "rate in .* is more than a plain value"),
    "a file": (bad_file, "holds more than tensors and plain values"),
}


def test_what_a_run_saves_is_read(in_tmp_path):
    folder = saved(in_tmp_path / "shards", {"lr": 0.1, "betas": (0.9, 0.999), "fused": None})
    places = read_description(folder).state_dict_metadata
    assert [tuple(places[f"weights.{name}"].size) for name in "ab"] == [(6,), (2, 3)]
    check_harmless(folder)
    torch.save({"state_dict": {"a": torch.arange(3)}, "epoch": 2}, "run.ckpt")
    check_harmless(in_tmp_path / "run.ckpt")
    assert read_file(in_tmp_path / "run.ckpt")["epoch"] == 2


@pytest.mark.parametrize("content", [b"", b"just words\n", bytes(range(256)), "half", "old"])
def test_a_file_that_is_no_checkpoint_or_was_cut_off_is_named(content, tmp_path):
    path = tmp_path / "run.ckpt"
    torch.save({"state_dict": {"a": torch.arange(1000)}}, path, _use_new_zipfile_serialization=content != "old")
    if content != "old":
        path.write_bytes(path.read_bytes()[:2000] if content == "half" else content)
    with pytest.raises(
        ValueError, match=r"run.ckpt is no checkpoint, or .* expected one that `ppl fit` wrote: name an"
    ):
        read_file(path)


@pytest.mark.parametrize("case", MALICIOUS)
@pytest.mark.parametrize("strategy", [FSDP1Strategy, FSDP2Strategy])
def test_a_run_does_not_go_on_from_what_would_run_something(case, strategy, in_tmp_path, monkeypatch):
    make, message = MALICIOUS[case]
    path = make(in_tmp_path / "foreign")
    resumed = strategy()
    monkeypatch.setattr(resumed, "broadcast", lambda value: value)
    monkeypatch.setattr(resumed, "reduce_boolean_decision", lambda decision, **_: decision)
    with pytest.raises(ValueError, match=message):
        resumed.load_checkpoint(path)
    assert not (in_tmp_path / "ran").exists()


def test_others_stop_too(monkeypatch):
    """A process that has nothing against it is told that the first one has."""
    resumed = FSDP2Strategy()
    monkeypatch.setattr(resumed, "broadcast", lambda value: value)
    monkeypatch.setattr(resumed, "reduce_boolean_decision", lambda *_, **__: True)
    resumed.cluster_environment = SimpleNamespace(global_rank=lambda: 1)
    with pytest.raises(ValueError, match="another process could not read a checkpoint"):
        resumed.load_checkpoint("somewhere")


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is damaged"), (pickle.dumps({}), "holds dict, expected places")]
)
def test_no_description(content, message, tmp_path):
    (tmp_path / SHARDS).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_description(tmp_path)
