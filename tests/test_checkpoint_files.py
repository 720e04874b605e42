"""Sharded checkpoints, read as the file that the same run would have written."""

import os
import pickle
import shutil

import pytest
import torch
from torch.distributed import checkpoint as distributed_checkpoint

from ppl import checkpoints
from ppl.checkpoint_files import DESCRIPTION, REST
from ppl.exporting.export import export
from ppl.saving.harmless import SHARDS
from tests.exporting.tiny_runs import fit

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # by writing in one process


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return fit(None, tmp_path_factory.mktemp("files") / "run", steps=1, every=1)[1]


def shards(file, folder, start="state_dict"):
    """As Lightning's strategies write them: FSDP2 under ``state_dict``, FSDP under ``model``; optimisers beside."""
    checkpoint = torch.load(file, weights_only=True)
    optimizers = {f"optimizer_{i}": state for i, state in enumerate(checkpoint.pop("optimizer_states"))}
    state = {start: checkpoint.pop("state_dict")} | optimizers
    distributed_checkpoint.save(state, checkpoint_id=folder, no_dist=True)
    torch.save(checkpoint, folder / REST)
    return folder


@pytest.mark.parametrize("start", ["state_dict", "model"])
def test_shards_are_the_file(file, tmp_path, start):
    folder = shards(file, tmp_path / "shards", start)
    one, other = checkpoints.read_checkpoint(file), checkpoints.read_checkpoint(folder)
    assert one["state_dict"].keys() == other["state_dict"].keys()
    assert all(torch.equal(other["state_dict"][name], tensor) for name, tensor in one["state_dict"].items())
    assert one.keys() - other.keys() == {"optimizer_states"}
    for key in ("hyper_parameters", "ppl", "global_step"):
        assert one[key] == other[key]


def test_shards_are_exported(file, tmp_path):
    export(shards(file, tmp_path / "shards"), tmp_path / "new", merge=True)
    export(file, tmp_path / "same", merge=True)
    for name in ("model.safetensors", "ppl.safetensors"):
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "same" / name).read_bytes()


class Malice:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


def test_a_description_that_would_run_something_is_refused(file, in_tmp_path):
    folder = shards(file, in_tmp_path / "shards")
    (folder / SHARDS).write_bytes(pickle.dumps(Malice()))
    with pytest.raises(ValueError, match=r"holds posix.mkdir, expected only places and shapes"):
        checkpoints.read_checkpoint(folder)
    assert not (in_tmp_path / "ran").exists()


def test_other_folders_are_named(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a folder without ppl.yaml .* and without .metadata"):
        checkpoints.load(tmp_path)
    folder = shards(file, tmp_path / "shards", "weights")
    with pytest.raises(ValueError, match="holds no checkpoint of `ppl fit` in shards"):
        checkpoints.load(folder)
    shutil.rmtree(folder)
    (shards(file, folder) / REST).unlink()
    with pytest.raises(ValueError, match=r"or no meta.pt"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "(a NoneType that lacks some of them)"),
        (b"[1, 2]", "(a list that lacks some of them)"),
        (b"model: {}", "(a dict that lacks some of them)"),
        (b"model: [", "(no YAML: while parsing a flow node"),
        (b"\xff\xfe", "(no YAML: 'utf-8' codec can't decode"),
    ],
)
def test_a_description_that_export_did_not_write_is_named(content, told, tmp_path):
    (tmp_path / DESCRIPTION).write_bytes(content)
    with pytest.raises(ValueError, match=r"got .*ppl.yaml .* as `ppl export` writes them: export again") as raised:
        checkpoints.load(tmp_path)
    assert told in str(raised.value)
    assert "expected base, conversation, files, model, transformers, as" in str(raised.value)
