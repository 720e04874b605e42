"""Checkpoints without what did not train: what is in them, what they are completed from, and resuming from them."""

import shutil

import pytest
import torch

from ppl import checkpoints
from ppl.modules.saving import BACKBONE
from tests.exporting.tiny_runs import base, fit
from tests.modules.tiny import image, make_batch, video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("saving")


@pytest.fixture(scope="module")
def source(folder):
    return base(folder)


@pytest.fixture(scope="module")
def run(source, folder):
    """Four steps, with checkpoints after two and four."""
    return fit(source, folder / "run", steps=4)


@torch.no_grad()
def logits(module):
    torch.manual_seed(0)
    rows = ([video(4)], "what colour is the square ?", "red"), ([image(40, 90)], "what is this ?", "a ring")
    return module.model(make_batch(module.model, *rows))


def read(path):
    return torch.load(path, weights_only=True)


def test_lora_s_checkpoints_hold_what_trained_and_the_aligner(run, source):
    module, path = run
    checkpoint = read(path)
    kinds = {name.split(".lora_")[0] if ".lora_" in name else name for name in checkpoint["state_dict"]}
    own = {name for name in kinds if name.startswith(BACKBONE)}
    decoder = {name for name in own if ".language_model." in name}
    assert {name.rsplit(".", 1)[-1] for name in decoder} == {
        "gate_proj",
        "up_proj",
        "down_proj",
        *(f"{x}_proj" for x in "qkvo"),
    }
    rest = {name.split(".")[4] for name in own - decoder}
    assert rest == {"multi_modal_projector"}
    aligner = {name for name, _ in module.named_parameters() if name.startswith("model.aligner.")}
    assert aligner <= kinds
    assert own | aligner == {name for name in kinds if not name.startswith("model.aligner.") or name in aligner}
    assert checkpoint["ppl"]["base"]["source"] == str(source)
    assert set(checkpoint["ppl"]["base"]["frozen"]) | checkpoint["state_dict"].keys() == module.state_dict().keys()


def test_the_model_comes_back_from_checkpoint_and_base(run, in_tmp_path):
    module, path = run
    loaded = checkpoints.load(path)
    assert torch.equal(logits(loaded), logits(module))
    written = {"state_dict": loaded.state_dict()}
    loaded.on_save_checkpoint(written)
    assert written["state_dict"].keys() == read(path)["state_dict"].keys()


def test_resumed_is_uninterrupted(run, source, folder):
    """Every weight, bit by bit."""
    _, path = run
    half = path.with_name("step=2.ckpt")
    with pytest.warns(UserWarning, match="The dirpath has changed from"):
        _, again = fit(source, folder / "again", f"--ckpt_path={half}", steps=4)
    one, other, before = (read(file)["state_dict"] for file in (path, again, half))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], before[name]) for name in one if ".lora_" in name)


@pytest.fixture
def altered(source, tmp_path):
    """Another base in its place, of other values in one tensor; what is in memory stays, as it is the file's."""
    kept = source.rename(tmp_path / "kept")
    shutil.copytree(kept, source)
    file = next(source.glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-64:] = bytes(64)
    file.write_bytes(data)
    yield
    shutil.rmtree(source)
    kept.rename(source)


def test_another_base_is_an_error(run, source, folder, altered):
    _, path = run
    with pytest.raises(ValueError, match=r"got other weights in .*base_tiny_llava_next .*ppl export .* --base COPY"):
        checkpoints.load(path)
    message = r"trained upon .*base_tiny_llava_next.*but this backbone has the weights of .*source and revision"
    with pytest.raises(ValueError, match=message):
        fit(source, folder / "wrong", f"--ckpt_path={path}", steps=6)


def test_a_base_that_is_gone_can_be_given(run, source, tmp_path):
    module, path = run
    moved = source.rename(tmp_path / "moved")
    try:
        with pytest.raises(FileNotFoundError, match=r"found no config\.json") as error:
            checkpoints.load(path)
        assert "holds only what trained upon it" in error.value.__notes__[0]
        assert torch.equal(logits(checkpoints.load(path, str(moved))), logits(module))
    finally:
        moved.rename(source)


def test_a_checkpoint_that_lacks_what_trained_is_refused(run, tmp_path):
    checkpoint = read(run[1])
    name = f"{BACKBONE}model.multi_modal_projector.linear_1.weight"
    checkpoint["state_dict"]["model.stranger"] = checkpoint["state_dict"].pop(name)
    torch.save(checkpoint, tmp_path / "altered.ckpt")
    with pytest.raises(ValueError, match=rf"Missing: {name}; Unexpected: model.stranger"):
        checkpoints.load(tmp_path / "altered.ckpt")


def test_kept_whole_it_needs_no_base(source, folder, in_tmp_path):
    module, path = fit(source, folder / "whole", "--model.saving.frozen=keep")
    assert read(path)["state_dict"].keys() == module.state_dict().keys()
    moved = source.rename(folder / "elsewhere")
    try:
        assert torch.equal(logits(checkpoints.load(path)), logits(module))
    finally:
        moved.rename(source)


def test_whole_runs_and_random_bases_are_kept_whole(source, folder):
    for name, begin, lora in (("full", source, ()), ("random", None, ("--model.lora={rank: 4, alpha: 8.0}",))):
        module, path = fit(begin, folder / name, lora=lora)
        assert read(path)["state_dict"].keys() == module.state_dict().keys()
        assert (read(path)["ppl"]["base"] is None) == (begin is None)
    with pytest.raises(ValueError, match=r"got saving.frozen=leave_out, expected it with weights that a recipe's"):
        fit(None, folder / "none", "--model.saving.frozen=leave_out")
