"""What is trained on the first start, and what is not trained again; the training itself is in test_first_start.py."""

import json
from types import SimpleNamespace

import pytest

from ppl.serving.page import embedded_model as module
from ppl.serving.page.embedded_model import embedded_model

GOOD = {"shape": 0.9, "colour": 0.9, "both": 0.9}
BAD = {**GOOD, "shape": 0.1}


@pytest.fixture
def runs(monkeypatch):
    """Commands in place of which files appear; how well each alignment points, and with what status each ends."""
    told = SimpleNamespace(commands=[], points=[GOOD, GOOD, GOOD], status=[0] * 4)

    def run(command, cwd, check):
        assert (cwd / command[6]).is_file(), "started where the recipes are"
        words = dict(word.split("=", 1) for word in command[7:])
        told.commands.append((command[6].rpartition("/")[2], words))
        folder = module.Path(words["--trainer.default_root_dir"])
        assert not folder.exists(), "what was broken off is removed"
        status = told.status.pop(0)
        if status == 0 and "align" in command[6]:
            folder.mkdir(parents=True)
            (folder / "alignment.safetensors").touch()
            points = {f"val/pointing/{kind}": value for kind, value in told.points.pop(0).items()}
            (folder / "metrics.jsonl").write_text(json.dumps({"stage": "val", "metrics": points}) + "\n")
        elif status == 0:
            (folder / "checkpoints").mkdir(parents=True)
            (folder / "checkpoints" / "last.ckpt").touch()
        return SimpleNamespace(returncode=status)

    monkeypatch.setattr(module.subprocess, "run", run)
    return told


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "demo" / "weighted" / "checkpoints" / "last.ckpt"


def test_the_towers_are_aligned_and_then_the_model_is_tuned(runs, checkpoint, tmp_path):
    said = []
    embedded_model(checkpoint, said.append)
    assert checkpoint.is_file()
    (align, aligned), (tune, tuned) = runs.commands
    assert (align, tune) == ("tiny_align.yaml", "tiny_sft.yaml")
    assert aligned["--seed_everything"] == aligned["--data.seed"] == "0"
    assert tuned == {
        "--trainer.default_root_dir": str(tmp_path / "demo" / "weighted"),
        "--model.alignment": str(tmp_path / "demo" / "align_0" / "alignment.safetensors"),
    }
    assert [words.partition(":")[0] for words in said[1:]] == ["1 of 2", "2 of 2"]


def test_what_is_there_is_not_trained_again(runs, checkpoint):
    embedded_model(checkpoint, str)
    embedded_model(checkpoint, lambda words: pytest.fail(words))
    assert len(runs.commands) == 2


def test_what_was_broken_off_goes_on_where_it_was(runs, checkpoint):
    runs.status = [0, 1, 0]
    with pytest.raises(ValueError, match=r"`ppl fit` of tiny_sft ended with status 1, .* call this again to go on"):
        embedded_model(checkpoint, str)
    (checkpoint.parents[1] / "half").mkdir(parents=True)
    embedded_model(checkpoint, str)
    assert [recipe for recipe, _ in runs.commands] == ["tiny_align.yaml", "tiny_sft.yaml", "tiny_sft.yaml"]


def test_an_alignment_that_points_nowhere_is_made_with_another_seed(runs, checkpoint):
    runs.points = [BAD, GOOD]
    embedded_model(checkpoint, str)
    assert [words.get("--seed_everything") for _, words in runs.commands] == ["0", "1000", None]
    assert runs.commands[-1][1]["--model.alignment"].endswith("align_1000/alignment.safetensors")


def test_if_none_points_well_that_is_said(runs, checkpoint):
    runs.points = [BAD] * 3
    with pytest.raises(ValueError, match=r"got no alignment that points well enough, of the seeds \(0, 1000, 2000\)"):
        embedded_model(checkpoint, str)
