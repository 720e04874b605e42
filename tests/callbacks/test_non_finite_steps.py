import logging
import math

import pytest
import torch
from lightning import Callback

from ppl.callbacks.kept_batch import read_batch
from ppl.callbacks.non_finite_steps import NonFiniteSteps, gradients_are_finite
from tests.callbacks.regression import Batches, Regression, batch
from tests.quiet import quiet_trainer

BAD = ["nan", "infinity", "gradient"]


class StateRecorder(Callback):
    """Weights and optimiser's state after each batch, copied."""

    def __init__(self):
        self.states = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        state = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        for number, moments in trainer.optimizers[0].state_dict()["state"].items():
            state |= {f"{number}.{name}": value.clone() for name, value in moments.items()}
        self.states.append(state)


def fit(folder, batches, *, max_skipped=20, module=None, **options):
    guard, recorder = NonFiniteSteps(max_skipped), StateRecorder()
    module = module or Regression(constant_rate=True)
    run = quiet_trainer(folder, recorder, guard, gradient_clip_val=1.0, **options)
    run.fit(module, Batches(batches))
    return guard, recorder.states, run


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("bad", BAD)
def test_a_skipped_step_changes_nothing(bad, tmp_path):
    guard, states, run = fit(tmp_path, [batch(0), batch(1), batch(2, bad), batch(3)])
    assert guard.skipped == 1
    assert equal(states[2], states[1]), "weights, moments and step counts, bit for bit"
    assert not equal(states[3], states[2])
    assert run.callback_metrics["train/skipped_steps"] == 1
    _, without, _ = fit(tmp_path, [batch(0), batch(1), batch(3)])
    assert equal(states[3], without[2]), "as if the batch had never been there"


def test_without_the_guard_it_would_be_lost(tmp_path):
    recorder = StateRecorder()
    quiet_trainer(tmp_path, recorder, gradient_clip_val=1.0).fit(Regression(), Batches([batch(0), batch(1, "nan")]))
    assert recorder.states[1]["model.2.bias"].isnan().all()


def test_schedules_and_counts_go_on(tmp_path):
    module = Regression()
    _, _, run = fit(tmp_path, [batch(0), batch(1, "nan"), batch(2)], module=module)
    assert run.global_step == 3
    assert module.optimizers().param_groups[0]["lr"] == pytest.approx(0.1 * 0.9**3)


@pytest.mark.parametrize("bad", BAD)
def test_accumulated_batches_are_skipped_together(bad, tmp_path, caplog):
    batches = [batch(0), batch(1), batch(2), batch(3, bad), batch(4), batch(5)]
    with caplog.at_level(logging.WARNING):
        guard, states, _ = fit(tmp_path, batches, accumulate_grad_batches=2)
    assert guard.skipped == 1
    assert equal(states[3], states[1])
    _, without, _ = fit(tmp_path, [batch(0), batch(1), batch(4), batch(5)], accumulate_grad_batches=2)
    assert equal(states[5], without[3])
    kept = sorted((tmp_path / "non_finite").iterdir())
    ids = [read_batch(path).batch["ids"][0] for path in kept]
    assert ids == (["2-0", "3-0"] if bad == "gradient" else ["3-0"]), "a bad gradient is blamed on the whole step"
    assert "step 1 skipped, number 1; the run stops at 20" in caplog.text
    assert f"{ids[-1]} (loss" in caplog.text


def test_the_batch_is_kept_for_replay(tmp_path):
    fit(tmp_path, [batch(0), batch(7, "nan")])
    (folder,) = (tmp_path / "non_finite").iterdir()
    assert folder.name == "step_1_rank_0_batch_0"
    kept = read_batch(folder)
    assert torch.equal(kept.batch["x"], batch(7)["x"])
    assert kept.batch["y"].isnan().tolist() == batch(7, "nan")["y"].isnan().tolist()
    assert kept.seed == 7, "of the dropout"
    assert kept.notes == {"step": 1, "rank": 0, "loss": "nan"}


def test_the_limit_stops_the_run_and_saves_it(tmp_path):
    batches = [batch(0), batch(1, "nan"), batch(2), batch(3, "infinity"), batch(4)]
    expected = (
        r"got 2 steps with a loss or gradient that is not finite, expected fewer than max_skipped=2; .*ppl replay"
    )
    with pytest.raises(ValueError, match=expected):
        fit(tmp_path, batches, max_skipped=2)
    saved = torch.load(tmp_path / "checkpoints/last-stopped.ckpt", weights_only=True)
    assert saved["global_step"] == 4
    assert saved["callbacks"]["NonFiniteSteps"] == {"skipped": 2}
    assert all(tensor.isfinite().all() for tensor in saved["state_dict"].values())


def test_the_count_goes_on_after_a_resumption():
    guard = NonFiniteSteps()
    guard.load_state_dict({"skipped": 4})
    assert guard.state_dict() == {"skipped": 4}


def test_a_limit_of_none():
    with pytest.raises(ValueError, match="got max_skipped=0, expected at least 1"):
        NonFiniteSteps(0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_bad_number_among_many(value, dtype):
    parameters = [torch.nn.Parameter(torch.zeros(50, dtype=dtype)) for _ in range(3)]
    for parameter in parameters[:2]:
        parameter.grad = torch.full_like(parameter, torch.finfo(dtype).max)
    assert gradients_are_finite(parameters), "the largest finite numbers are finite, though their norm is not"
    parameters[1].grad[17] = value
    assert not gradients_are_finite(parameters)


def test_no_gradients_are_finite():
    empty = torch.nn.Parameter(torch.zeros(0))
    empty.grad = torch.zeros(0)
    assert gradients_are_finite([])
    assert gradients_are_finite([empty, torch.nn.Parameter(torch.zeros(2))])
