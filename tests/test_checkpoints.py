"""A checkpoint alone gives back the trained model, wherever it is opened."""

import json
import re
import shutil

import pytest
import torch
from PIL import Image

from ppl import checkpoints
from ppl.training_cli import run_training_cli
from tests.modules.tiny import ROOT, image, make_batch, video

ARGUMENTS = """
    fit -c recipes/experiments/tiny_sft.yaml -c recipes/overlays/debug.yaml --model.alignment=null
    --data=ppl.datamodules.instruction.InstructionDataModule --data.num_frames=6 --data.batch_size=4
    --data.num_workers=0 --data.template=plain_v1 --trainer.logger=false
"""


def write_questions(folder):
    lines = []
    for number, colour in enumerate(["red", "blue", "green", "white"] * 2):
        Image.new("RGB", (60 + 10 * number, 50), colour).save(folder / f"{number}.png")
        question = [{"type": "image", "image": f"{number}.png"}, {"type": "text", "text": "what colour is it ?"}]
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": colour}]
        lines.append(json.dumps({"id": str(number), "messages": messages}))
    path = folder / "questions.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two steps of the recipe's training: the module as trained, and its checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    files = f"--data.train_files=[{write_questions(folder)}]"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the recipes' folders are relative to it
        cli = run_training_cli([*ARGUMENTS.split(), files, f"--trainer.default_root_dir={folder}"])
    (path,) = folder.rglob("*.ckpt")
    return cli.model.eval(), path


@pytest.fixture
def altered(run, tmp_path):
    """Write the checkpoint with a change and return its path."""

    def alter(change):
        checkpoint = torch.load(run[1], weights_only=True)
        change(checkpoint)
        path = tmp_path / "altered.ckpt"
        torch.save(checkpoint, path)
        return path

    return alter


def logits(module, batch):
    with torch.no_grad():
        return module.model(batch)


def batch_for(module):
    rows = ([video(6)], "what colour is the square ?", "red"), ([image(40, 90)], "what is this ?", "a ring")
    return make_batch(module.model, *rows)


def test_the_trained_model_comes_back_anywhere(run, in_tmp_path):
    trained, path = run
    moved = shutil.copy(path, in_tmp_path / "elsewhere.ckpt")
    loaded = checkpoints.load(moved)
    assert not loaded.training
    batch = batch_for(trained)
    assert torch.equal(logits(loaded, batch), logits(trained, batch))
    assert loaded.conversation == {"template": "plain_v1", "num_frames": 6}
    names = [name for name, _ in trained.named_parameters()]
    assert [name for name, _ in loaded.named_parameters()] == names
    assert loaded.input_spec.tokenizer.get_vocab() == trained.input_spec.tokenizer.get_vocab()
    assert str(type(loaded.model.pooler)) == str(type(trained.model.pooler))
    assert loaded.model.positions is not None


def test_training_changed_the_model(run):
    """Otherwise equal logits would say nothing about the weights."""
    trained, path = run
    state = torch.load(path, weights_only=True)
    assert state["global_step"] == 2
    fresh = checkpoints._build(state, path.parent / "rebuilt")
    batch = batch_for(trained)
    assert not torch.allclose(logits(fresh.eval(), batch), logits(trained, batch), atol=1e-3)


def test_a_loaded_model_can_be_saved_again(run, in_tmp_path):
    loaded = checkpoints.load(run[1])
    written = {}
    loaded.on_save_checkpoint(written)
    original = torch.load(run[1], weights_only=True)["ppl"]
    assert written["ppl"]["conversation"] == original["conversation"]
    assert written["ppl"]["files"]["backbone/tokenizer.json"] == original["files"]["backbone/tokenizer.json"]
    assert (
        written["ppl"]["files"]["aligner/open_clip_config.json"] == original["files"]["aligner/open_clip_config.json"]
    )


def test_a_loaded_model_answers(run, in_tmp_path):
    trained, path = run
    loaded = checkpoints.load(path)
    rows = ([video(6)], "what colour is the square ?", "red"), ([], "which way ?", "left")
    batch = make_batch(loaded.model, *rows, prompts=True)
    answers = loaded.predict_step(batch, 0)
    assert [row["answer"] for row in answers] == ["red", "left"]
    assert answers == trained.predict_step(batch, 0)
    assert loaded.generation.max_new_tokens == 4  # the recipe's


def test_a_missing_file(in_tmp_path):
    with pytest.raises(FileNotFoundError, match=r"got checkpoint 'none.ckpt', which does not exist; expected one that"):
        checkpoints.load("none.ckpt")


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("aligner", "ppl.modules.aligner.CLIPAligner"),  # as it was called once
        ("pooler", "ppl.modules.poolers.weighted.Renamed"),
        ("backbone", "no_such_package.Backbone"),
        (None, "ppl.modules.no_such_module.SFTModule"),
    ],
)
def test_a_class_that_is_no_longer_there_is_named(altered, part, name):
    def change(checkpoint):
        recipe = checkpoint["hyper_parameters"]
        if part is None:
            recipe["_class_path"] = name
        else:
            recipe[part]["class_path"] = name

    path = altered(change)
    told = f"got checkpoint {path}, whose recipe names the class {name}, expected one that is there; ppl "
    with pytest.raises(ValueError, match=re.escape(told)) as raised:
        checkpoints.load(path)
    assert "open it with the version of ppl that wrote it, or train again" in str(raised.value)
    assert "if the class is yours, put its folder on PYTHONPATH" in str(raised.value)


def test_an_argument_that_is_no_longer_there_is_named_in_a_line(altered):
    path = altered(lambda checkpoint: checkpoint["hyper_parameters"]["aligner"]["init_args"].update(stretch=True))
    with pytest.raises(ValueError, match=re.escape(f"got checkpoint {path}, whose recipe ppl ")) as raised:
        checkpoints.load(path)
    message = str(raised.value)
    assert "CLIPAligner': Option 'stretch' is not accepted), expected one whose classes take the same" in message
    assert "\n" not in message
    assert "open it with the version of ppl that wrote it" in message


@pytest.mark.parametrize("key", ["ppl", "hyper_parameters"])
def test_a_checkpoint_of_something_else(altered, key):
    path = altered(lambda checkpoint: checkpoint.pop(key))
    with pytest.raises(ValueError, match=re.escape(f"{path} is no checkpoint of `ppl fit`")):
        checkpoints.load(path)


def test_weights_that_do_not_fit_are_listed(altered):
    def change(checkpoint):
        state = checkpoint["state_dict"]
        del state["model.backbone.hf.lm_head.weight"]
        state["model.stranger"] = torch.zeros(1)
        state["model.aligner.text_tower.positions"] = torch.zeros(77, 64)

    path = altered(change)
    with pytest.raises(ValueError, match="are not those of the model its recipe describes") as raised:
        checkpoints.load(path)
    message = str(raised.value)
    assert str(path) in message
    assert 'Missing key(s) in state_dict: "model.backbone.hf.lm_head.weight".' in message
    assert 'Unexpected key(s) in state_dict: "model.stranger".' in message
    assert "size mismatch for model.aligner.text_tower.positions" in message


class Malice:
    def __reduce__(self):
        return (print, ("code from a checkpoint ran",))


def test_code_in_a_checkpoint_does_not_run(run, tmp_path, capsys):
    checkpoint = torch.load(run[1], weights_only=True) | {"extra": Malice()}
    path = tmp_path / "malicious.ckpt"
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match="holds more than tensors and plain values"):
        checkpoints.load(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["../outside.txt", "{tmp_path}/outside.txt", "backbone/../../outside.txt"])
def test_a_checkpoint_writes_nothing_outside_its_folder(altered, tmp_path, name):
    name = name.format(tmp_path=tmp_path)
    path = altered(lambda checkpoint: checkpoint["ppl"]["files"].update({name: "text"}))
    with pytest.raises(ValueError, match="expected names inside its own folder"):
        checkpoints.load(path)
    assert not (tmp_path / "outside.txt").exists()
