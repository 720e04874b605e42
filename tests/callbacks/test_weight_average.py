import pytest
import torch
import yaml
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from ppl import checkpoints
from ppl.callbacks.preemption import Preemption
from ppl.callbacks.weight_average import WeightAverage
from tests.callbacks.regression import Batches, Regression, batch
from tests.exporting.tiny_runs import base, fit
from tests.modules.tiny import ROOT
from tests.quiet import quiet_trainer
from tests.recipes.discovery import QUIET, SMALL_QUESTIONS, run

DECAY = 0.75


class Recorder(Callback):
    def __init__(self):
        self.weights = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.weights.append({name: p.detach().clone() for name, p in pl_module.named_parameters()})


def averaged(weights):
    """By hand: a copy of the first step's weights, which then moves by a quarter of its distance at each step."""
    average = weights[0]
    for each in weights[1:]:
        average = {name: DECAY * value + (1 - DECAY) * each[name] for name, value in average.items()}
    return average


def test_the_checkpoint_holds_the_average_and_the_weights(tmp_path):
    recorder, average, saver = Recorder(), WeightAverage(DECAY), ModelCheckpoint(tmp_path, filename="last")
    fit = quiet_trainer(tmp_path, recorder, average, Preemption(), saver, enable_checkpointing=True)
    fit.fit(Regression(), Batches([batch(number) for number in range(5)]))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    for name, value in averaged(recorder.weights).items():
        torch.testing.assert_close(saved["state_dict"][name], value)  # the same sums in another order
        assert torch.equal(saved["current_model_state"][name], recorder.weights[-1][name])
        assert not torch.allclose(value, recorder.weights[-1][name])


@pytest.mark.parametrize("strategy", [FSDPStrategy(), ModelParallelStrategy()], ids=lambda each: type(each).__name__)
def test_a_sharded_model_has_no_average(strategy, tmp_path):
    run = quiet_trainer(tmp_path)
    run._accelerator_connector.strategy = strategy
    with pytest.raises(ValueError, match=rf"got {type(strategy).__name__} .* leave out recipes/overlays/ema.yaml"):
        WeightAverage().setup(run, Regression(), "fit")


@pytest.mark.parametrize(("dtype", "precision"), [(torch.bfloat16, "32-true"), (torch.float32, "bf16-true")])
def test_an_average_in_16_bits_is_refused(dtype, precision, tmp_path):
    """1 + 0.001 (1.5 - 1) is 1 in bfloat16, whose next number is 1 + 1/128: such an average never moves."""
    with pytest.raises(ValueError, match=r"that train in .*bf(loat)?16.*, expected float32, .*ema.yaml"):
        WeightAverage().setup(quiet_trainer(tmp_path, precision=precision), Regression().to(dtype), "fit")
    frozen = Regression()
    frozen.model.requires_grad_(False)
    frozen.model.to(torch.bfloat16)
    WeightAverage().setup(quiet_trainer(tmp_path), frozen, "fit")  # as a base under adapters may be


@pytest.mark.filterwarnings("ignore:The dirpath has changed from")
def test_the_overlay_runs_resumes_and_its_model_is_the_average(tmp_path):
    overlay = yaml.safe_load((ROOT / "recipes/overlays/ema.yaml").read_text())
    (callback,) = overlay["trainer"]["callbacks+"]
    assert callback["class_path"] == "ppl.callbacks.weight_average.WeightAverage"
    words = [
        *("fit", "-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml"),
        *("-c", "recipes/overlays/ema.yaml", "--model.alignment=null", *SMALL_QUESTIONS, *QUIET),
    ]
    cli = run(*words, f"--trainer.default_root_dir={tmp_path / 'run'}")
    (path,) = (tmp_path / "run").rglob("*.ckpt")
    saved = torch.load(path, weights_only=True)
    assert {"state_dict", "current_model_state", "averaging_state"} <= saved.keys()
    loaded = checkpoints.load(path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in cli.model.state_dict().items())
    assert any(
        not torch.equal(saved["state_dict"][name], value) for name, value in saved["current_model_state"].items()
    )
    run(
        *words,
        f"--trainer.default_root_dir={tmp_path / 'on'}",
        f"--ckpt_path={path}",
        "--trainer.max_epochs=2",
        "--trainer.max_steps=3",
    )


@pytest.mark.filterwarnings("ignore:The dirpath has changed from")
def test_adapters_are_averaged_and_go_on_exactly(tmp_path):
    """Their checkpoints leave out what is frozen, of the average and of the weights."""
    source, overlay = base(tmp_path), ("-c", "recipes/overlays/ema.yaml")
    module, path = fit(source, tmp_path / "run", *overlay, steps=4)
    _, again = fit(source, tmp_path / "on", *overlay, f"--ckpt_path={path.with_name('step=2.ckpt')}", steps=4)
    one, other = (torch.load(file, weights_only=True) for file in (path, again))
    loaded, whole = checkpoints.load(path).state_dict(), module.state_dict()
    for part in ("state_dict", "current_model_state"):
        assert one[part].keys() == other[part].keys() < whole.keys()
        assert all(torch.equal(other[part][name], value) for name, value in one[part].items())
    assert all(torch.equal(loaded[name], value) for name, value in one["state_dict"].items())
    torch.testing.assert_close(loaded, whole)  # the average of equal weights is rounded
