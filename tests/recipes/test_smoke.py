"""Every experiment trains, validates, resumes and is tested, on the tiny model of its class."""

import json

import pytest
import torch

from tests.recipes.discovery import QUIET, found, recipe, run, small

# A run that starts from another's checkpoint writes to a folder of its own here, which Lightning remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed from")

EXPERIMENTS = found("experiments")


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(checkpoint):
    return torch.load(checkpoint, weights_only=True)["state_dict"]


@pytest.mark.parametrize("path", EXPERIMENTS)
def test_two_steps_and_on_from_there(path, tmp_path):
    words = ["-c", path, "-c", "recipes/overlays/debug.yaml", *small(path, tmp_path / "data"), *QUIET]
    first, second, third = (f"--trainer.default_root_dir={tmp_path / name}" for name in ("fit", "eval", "resumed"))

    cli = run("fit", *words, first)
    assert cli.trainer.global_step == 2
    (checkpoint,) = (tmp_path / "fit").rglob("*.ckpt")
    (line,) = metrics(tmp_path / "fit")
    assert (line["stage"], line["step"]) == ("val", 2)
    assert line["metrics"]["val/loss"] > 0

    stage = "test" if "test/loss" in _tested(cli) else "validate"
    run(stage, *words, second, f"--ckpt_path={checkpoint}")
    (again,) = metrics(tmp_path / "eval")
    if stage == "validate":
        assert again["metrics"] == pytest.approx(line["metrics"], rel=1e-4), "other weights than those just validated"
    else:
        assert again["metrics"]["test/loss"] > 0
        assert 0 <= again["metrics"]["test/accuracy/mean"] <= 1

    # By epochs: where max_steps is given, Lightning 2.6 takes a resumed epoch's successor for done.
    more = ("--trainer.max_steps=-1", "--trainer.max_epochs=2", f"--ckpt_path={checkpoint}")
    resumed = run("fit", *words, third, *more)
    assert resumed.trainer.global_step == 4
    assert [line["step"] for line in metrics(tmp_path / "resumed")] == [4], "it began anew instead of resuming"
    (later,) = (tmp_path / "resumed").rglob("*.ckpt")
    before, after = weights(checkpoint), weights(later)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


SFT = [path for path in EXPERIMENTS if recipe(path)["model"]["class_path"] == "ppl.modules.sft.SFTModule"]


@pytest.mark.parametrize("path", SFT)
def test_two_steps_with_adapters(path, tmp_path):
    """Adapters, projector and text tower move; language model and vision tower do not."""
    overlays = ["-c", "recipes/overlays/lora.yaml", "-c", "recipes/overlays/debug.yaml"]
    rates = [f"--model.learning_rates.{part}=0.01" for part in ("lora", "projector", "text_tower")]
    rates.append("--model.learning_rates.newline=0")  # videos have none
    root = f"--trainer.default_root_dir={tmp_path / 'fit'}"
    cli = run("fit", "-c", path, *overlays, *small(path, tmp_path / "data"), *rates, *QUIET, root)
    assert cli.trainer.global_step == 2
    rates = {part.name: part.learning_rate for part in cli.model.parts}
    moved = {name for name, rate in rates.items() if rate is not None}
    assert moved == {"lora", "projector", "text_tower"}
    fresh = run("validate", "-c", path, *overlays, *small(path, tmp_path / "data"), *QUIET, root).model
    for before, after in zip(fresh.parts, cli.model.parts, strict=True):
        same = all(torch.equal(a, b) for a, b in zip(before.parameters, after.parameters, strict=True))
        assert same == (after.name not in moved), after.name


def _tested(cli):
    """Stages the model has: one without a test step is validated."""
    overridden = type(cli.model).__dict__.get("test_step") is not None
    return {"test/loss"} if overridden else set()
