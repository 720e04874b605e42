import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from ppl.modules.backbones.identity import SLICES, base_identity, weights_digest


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    tensors = {"a": torch.randn(100, 3), "b": torch.randn(5).bfloat16(), "c": torch.tensor(1.0), "d": torch.zeros(0, 2)}
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text("{}")
    save_file(tensors, tmp_path / "base/model.safetensors")
    return tmp_path / "base"


def changed(folder, name, value):
    other = folder.with_name("other")
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(folder, other)
    save_file(load_file(folder / "model.safetensors") | {name: value}, other / "model.safetensors")
    return weights_digest(other)


def test_other_weights_have_another_digest(folder):
    own, held = weights_digest(folder), load_file(folder / "model.safetensors")
    assert changed(folder, "a", held["a"].clone()) == own
    last = held["a"].clone()
    last[-1, -1] += 1
    for name, value in (
        ("a", last),
        ("a", held["a"].double()),
        ("a", held["a"].reshape(3, 100)),
        ("b", held["b"] + 1),
        ("c", held["c"] + 1),
        ("d", torch.zeros(0, 3)),
        ("e", torch.zeros(1)),
    ):
        assert changed(folder, name, value) != own, name


def test_few_slices_are_read(folder):
    """A change between them is missed, as the docstring says."""
    held = load_file(folder / "model.safetensors")["a"]
    rows = {99 * i // (SLICES - 1) for i in range(SLICES)}
    held[next(row for row in range(100) if row not in rows)] += 1
    assert changed(folder, "a", held) == weights_digest(folder)


def test_shards_of_the_same_weights_are_the_same(folder):
    held, other = load_file(folder / "model.safetensors"), folder.with_name("shards")
    other.mkdir()
    for number, names in enumerate((["a", "c"], ["b", "d"])):
        save_file({name: held[name] for name in names}, other / f"model-{number}.safetensors")
    places = '"a": "model-0.safetensors", "c": "model-0.safetensors", "b": "model-1.safetensors"'
    (other / "model.safetensors.index.json").write_text('{"weight_map": {' + places + ', "d": "model-1.safetensors"}}')
    assert weights_digest(other) == weights_digest(folder)


def test_a_folder_is_named_as_it_was(folder):
    assert base_identity(str(folder), "main") == {
        "source": str(folder),
        "revision": "main",
        "digest": weights_digest(folder),
    }
    with pytest.raises(FileNotFoundError, match="found no"):
        base_identity(str(folder / "nowhere"), "main")
