"""Checkpoints are whole or not there, whatever fails on the way."""

import contextlib
import errno
import os
import resource
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from ppl.saving import checkpoint_io
from ppl.saving.checkpoint_io import PARTIAL, BackgroundCheckpointIO, VerifiedCheckpointIO, damaged_entry, num_bytes
from tests.callbacks.regression import Batches, Regression, batch
from tests.quiet import quiet_trainer


def checkpoint(value=1.0, size=1000):
    weight = torch.full((size,), value)
    return {"state_dict": {"a": weight, "tied": weight, "b": weight[:3]}, "loops": [1, ("x", None)], "empty": {}}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def saved(tmp_path):
    """An older checkpoint, and the bytes it must keep."""
    path = tmp_path / "last.ckpt"
    VerifiedCheckpointIO().save_checkpoint(checkpoint(0.0), path)
    return path, path.read_bytes()


def test_it_comes_back_and_nothing_else_stays(tmp_path):
    path = tmp_path / "new folder/last.ckpt"
    VerifiedCheckpointIO().save_checkpoint(checkpoint(), path)
    state = VerifiedCheckpointIO().load_checkpoint(path, weights_only=True)["state_dict"]
    assert torch.equal(state["a"], torch.ones(1000))
    assert state["a"].data_ptr() == state["b"].data_ptr(), "shared memory stays shared"
    assert names(path.parent) == ["last.ckpt"]


def test_size():
    weight = torch.zeros(10, dtype=torch.float64)
    assert (
        num_bytes({"a": weight, "b": [weight[2:5], (torch.zeros(3, dtype=torch.int8), 7)], "c": torch.zeros(0)}) == 83
    )


def test_a_full_disk_is_told_before_anything_is_written(saved, monkeypatch):
    path, before = saved
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    written = []
    monkeypatch.setattr(torch, "save", lambda *_: written.append(1))
    with pytest.raises(
        OSError, match=r"got 0.00 GiB free in .*, expected 0.03 for last.ckpt; nothing was written"
    ) as told:
        VerifiedCheckpointIO().save_checkpoint(checkpoint(), path)
    assert told.value.errno == errno.ENOSPC
    assert not written
    assert path.read_bytes() == before
    assert names(path.parent) == ["last.ckpt"]


@contextlib.contextmanager
def largest_file(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [100, 10_000, 70_000])
def test_a_disk_that_fills_up_on_the_way_costs_nothing(limit, saved):
    """A real write error, by a limit on file sizes, at the beginning, in the middle and near the end."""
    path, before = saved
    with largest_file(limit), pytest.raises(OSError, match=r"could not write a checkpoint into .* are whole"):
        VerifiedCheckpointIO().save_checkpoint(checkpoint(size=20_000), path)
    assert path.read_bytes() == before
    assert names(path.parent) == ["last.ckpt"]


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def damage_a_weight(path):
    content = path.read_bytes()
    flip(path, content.index(torch.full((20,), 3.0).numpy().tobytes()) + 41)


@pytest.mark.parametrize("damage", [damage_a_weight, lambda path: os.truncate(path, path.stat().st_size - 10)])
def test_what_the_disk_changed_is_found_and_older_ones_stay(damage, saved, monkeypatch):
    path, before = saved
    monkeypatch.setattr(checkpoint_io, "_forget_cached", damage)
    with pytest.raises(ValueError, match=r"when reading back a checkpoint .* older checkpoints are whole"):
        VerifiedCheckpointIO().save_checkpoint(checkpoint(3.0), path)
    assert path.read_bytes() == before
    assert names(path.parent) == ["last.ckpt"]


def test_every_single_bit_of_a_weight_counts(tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save(checkpoint(3.0), path)
    assert damaged_entry(path) is None
    damage_a_weight(path)
    assert damaged_entry(path).startswith("x/data/")


@pytest.mark.parametrize(
    "other", [checkpoint(size=999), checkpoint() | {"more": 1}, {**checkpoint(), "loops": [1, ("x", 0)]}]
)
def test_names_shapes_and_types_are_compared(other, saved, monkeypatch):
    path, before = saved
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda _, file: save(other, file))
    with pytest.raises(ValueError, match=r"got other values of \.(state_dict\.a|more|loops\.1\.1)"):
        VerifiedCheckpointIO().save_checkpoint(checkpoint(), path)
    assert path.read_bytes() == before


def test_a_killed_process_leaves_the_older_one_and_the_next_cleans_up(saved, monkeypatch):
    path, before = saved
    monkeypatch.setattr(checkpoint_io, "_verify", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    child = os.fork()
    if not child:
        VerifiedCheckpointIO().save_checkpoint(checkpoint(), path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert path.read_bytes() == before
    assert names(path.parent) == [PARTIAL, "last.ckpt"]
    monkeypatch.undo()
    VerifiedCheckpointIO().save_checkpoint(checkpoint(), path)
    assert names(path.parent) == ["last.ckpt"]


class LiveHparams(Regression):
    def __init__(self, part):
        super().__init__()
        self.save_hyperparameters()


@pytest.mark.filterwarnings("ignore:Attribute 'part' is an instance of `nn.Module`")
def test_a_checkpoint_that_holds_a_live_module(tmp_path):
    saver = ModelCheckpoint(tmp_path / "checkpoints")
    run = quiet_trainer(tmp_path, saver, enable_checkpointing=True, plugins=[VerifiedCheckpointIO()])
    run.fit(LiveHparams(nn.Linear(1, 1)), Batches([batch(0)]))
    assert names(tmp_path / "checkpoints") == ["epoch=0-step=1.ckpt"]


@pytest.mark.parametrize("background", [False, True])
def test_older_ones_are_removed_only_after_the_new_one_is_verified(background, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints"
    verified = checkpoint_io._verify
    seen = []

    def verify(content, partial):
        seen.append(names(folder))
        if content["global_step"] == 3:
            damage = partial.read_bytes()
            partial.write_bytes(damage[:-5])
        verified(content, partial)

    monkeypatch.setattr(checkpoint_io, "_verify", verify)
    io = BackgroundCheckpointIO() if background else VerifiedCheckpointIO()
    saver = ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=1)
    run = quiet_trainer(tmp_path, saver, enable_checkpointing=True, plugins=[io])
    with pytest.raises(ValueError, match="when reading back a checkpoint"):
        run.fit(Regression(), Batches([batch(number) for number in range(6)]))
    assert seen[:3] == [[PARTIAL], [PARTIAL, "epoch=0-step=1.ckpt"], [PARTIAL, "epoch=0-step=2.ckpt"]]
    assert "epoch=0-step=2.ckpt" in names(folder), "the last that is whole"
    assert PARTIAL not in names(folder)


def test_in_the_background_the_same_is_written(tmp_path):
    written = []
    for io in (VerifiedCheckpointIO(), BackgroundCheckpointIO()):
        saver = ModelCheckpoint(tmp_path / type(io).__name__, every_n_train_steps=1)
        run = quiet_trainer(tmp_path, saver, enable_checkpointing=True, plugins=[io])
        torch.manual_seed(0)
        run.fit(Regression(), Batches([batch(number) for number in range(4)]))
        (path,) = (tmp_path / type(io).__name__).iterdir()
        written.append(torch.load(path, weights_only=True)["state_dict"])
    assert all(torch.equal(written[0][name], value) for name, value in written[1].items())


def test_what_is_read_runs_nothing_wherever_it_is_from(tmp_path, monkeypatch):
    """Lightning opens files of other machines without that limit."""
    asked = []
    monkeypatch.setattr("lightning.fabric.plugins.io.torch_io.get_filesystem", lambda _: SimpleNamespace(exists=bool))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda _, **options: asked.append(options) or {})
    VerifiedCheckpointIO().load_checkpoint("http://somewhere/last.ckpt")
    assert [options["weights_only"] for options in asked] == [True]
