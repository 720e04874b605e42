import re

import pytest
import torch

from ppl.callbacks.kept_batch import KeptBatch, read_batch
from ppl.callbacks.replay import replay
from ppl.cli import main
from tests.callbacks.regression import Regression, batch
from tests.recipes.discovery import QUIET, SMALL_QUESTIONS, run

ALL = "model.0.weight, model.0.bias, model.2.weight, model.2.bias of 4"


def told(module, content):
    return replay(module, KeptBatch(content, 7, {"step": 3, "loss": "nan"}))


def test_a_bad_target():
    assert told(Regression(), batch(0, "nan")) == [
        f"samples: {', '.join(batch(0)['ids'])}",
        "in the run: step 3, loss nan",
        "loss: nan, not finite",
        "weights that are not finite: none",
        "first output that is not finite: none",
        f"gradients that are not finite: {ALL}",
    ]


def test_a_bad_gradient_of_a_good_loss():
    lines = told(Regression(), batch(0, "gradient"))
    assert re.fullmatch(r"loss: \d+\.\d+", lines[2])
    assert lines[4:] == ["first output that is not finite: none", f"gradients that are not finite: {ALL}"]


def test_a_bad_input_and_a_bad_weight():
    content = batch(0)
    content["x"][1, 1] = float("inf")
    assert told(Regression(), content)[4] == "first output that is not finite: model.0 (Linear)"
    module = Regression()
    with torch.no_grad():
        module.model[2].bias.fill_(float("nan"))
    assert told(module, batch(0))[3:5] == [
        "weights that are not finite: model.2.bias",
        "first output that is not finite: model.2 (Linear)",
    ]


def test_dropout_falls_as_it_did():
    module = Regression()
    torch.manual_seed(7)
    expected = (module.train().model(batch(0)["x"]).squeeze(1) - batch(0)["y"]).square().mean().item()
    torch.manual_seed(0)
    assert told(module, batch(0))[2:] == [
        f"loss: {expected}",
        "weights that are not finite: none",
        "first output that is not finite: none",
        "gradients that are not finite: none of 4",
    ]


def test_of_a_whole_run(tmp_path, capsys):
    """A run stops at its first bad step, and the command finds what made it bad: here an infinite projector."""
    words = [
        *("fit", "-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml"),
        *("--model.alignment=null", *SMALL_QUESTIONS, *QUIET, f"--trainer.default_root_dir={tmp_path}"),
        *("--trainer.callbacks+=ppl.callbacks.non_finite_steps.NonFiniteSteps", "--trainer.callbacks.max_skipped=1"),
        "--trainer.callbacks+=tests.callbacks.regression.BreakProjector",
    ]
    with pytest.raises(ValueError, match="got 1 steps with a loss or gradient that is not finite"):
        run(*words)
    (folder,) = (tmp_path / "non_finite").iterdir()
    capsys.readouterr()
    main(["replay", str(folder), "--checkpoint", str(tmp_path / "checkpoints/last-stopped.ckpt")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"samples: {', '.join(read_batch(folder).batch['ids'])}"
    assert lines[1:3] == ["in the run: step 0, rank 0, loss nan", "loss: nan, not finite"]
    assert re.search(r"weights that are not finite: \S*multi_modal_projector\S*bias$", lines[3])
    assert re.search(r"first output that is not finite: \S*multi_modal_projector", lines[4])
