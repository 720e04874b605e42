"""Oracles: numbers derived by hand, and TRL's own losses called with given log-probabilities."""

import math
from types import SimpleNamespace
from unittest.mock import MagicMock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from ppl.functional.preference import (
    hinge_loss,
    ipo_loss,
    kto_pair_loss,
    orpo_loss,
    robust_loss,
    sigmoid_loss,
    simpo_loss,
)

CHOSEN = torch.tensor([2.0, -1.0], dtype=torch.float64)
REJECTED = torch.tensor([0.0, 3.0], dtype=torch.float64)
LENGTHS = (torch.tensor([2, 4]), torch.tensor([3, 5]))
LOG3 = math.log(3)


def row(value):
    return torch.tensor([value], dtype=torch.float64)


def assert_close(got, expected):
    """fp64 with one rounding or two an operation."""
    torch.testing.assert_close(got, torch.as_tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)


def test_hand_derived():
    """sigmoid(ln 3) = 3/4, so -log sigmoid(ln 3) = ln 4/3 and -log sigmoid(-ln 3) = ln 4."""
    chosen, rejected = row(2 * LOG3), row(0.0)
    assert_close(sigmoid_loss(chosen, rejected, 0.5), [math.log(4 / 3)])
    assert_close(sigmoid_loss(rejected, chosen, 0.5), [math.log(4)])
    assert_close(sigmoid_loss(chosen, rejected, 0.5, 0.25), [0.75 * math.log(4 / 3) + 0.25 * math.log(4)])
    assert_close(robust_loss(chosen, rejected, 0.5, 0.25), [(0.75 * math.log(4 / 3) - 0.25 * math.log(4)) / 0.5])
    assert_close(hinge_loss(CHOSEN, REJECTED, 0.1), [1 - 0.2, 1 + 0.4])
    assert_close(hinge_loss(CHOSEN, REJECTED, 0.5), [0.0, 3.0])
    assert_close(ipo_loss(CHOSEN, REJECTED, 0.25), [(2 - 2) ** 2, (-4 - 2) ** 2])
    assert_close(simpo_loss(chosen, rejected, 1.0, LOG3), [math.log(4 / 3)])
    # KL of the rejected is (0 + 3) / 2, of the chosen (2 - 1) / 2
    sigmoid = [1 / (1 + math.exp(-x)) for x in (2 - 1.5, 0.5 - 0.0, -1 - 1.5, 0.5 - 3.0)]
    assert_close(
        kto_pair_loss(CHOSEN, REJECTED, 1.0), [1 - (sigmoid[0] + sigmoid[1]) / 2, 1 - (sigmoid[2] + sigmoid[3]) / 2]
    )
    # odds of 3/4 are 3, of 1/2 are 1: their ratio is 3
    likely, even = row(math.log(0.75)), row(math.log(0.5))
    assert_close(orpo_loss(likely, even, 0.1), [-math.log(0.75) + 0.1 * math.log(4 / 3)])


def test_kto_holds_its_reference_point_fixed():
    chosen, rejected = CHOSEN.clone().requires_grad_(), REJECTED.clone().requires_grad_()
    kto_pair_loss(chosen, rejected, 1.0).sum().backward()
    s = torch.sigmoid(CHOSEN - 1.5)
    assert_close(chosen.grad, -s * (1 - s) / 2)
    below = kto_pair_loss(-CHOSEN.abs(), -REJECTED.abs(), 1.0)  # a negative mean counts as 0
    assert_close(below, 1 - (torch.sigmoid(-CHOSEN.abs()) + torch.sigmoid(REJECTED.abs())) / 2)


scores = st.lists(st.floats(-30, 30), min_size=3, max_size=3).map(lambda x: torch.tensor(x, dtype=torch.float64))


@given(scores, scores, st.floats(0.01, 2))
def test_better_pairs_cost_less(chosen, rejected, beta):
    for loss in (
        lambda c, r: sigmoid_loss(c, r, beta),
        lambda c, r: sigmoid_loss(c, r, beta, 0.0),
        lambda c, r: hinge_loss(c, r, beta),
        lambda c, r: simpo_loss(c, r, beta, 0.5),
    ):
        assert (loss(chosen + 1, rejected) <= loss(chosen, rejected)).all()
    robust = 0.7 * robust_loss(chosen, rejected, beta, 0.3) + 0.3 * robust_loss(rejected, chosen, beta, 0.3)
    torch.testing.assert_close(robust, sigmoid_loss(chosen, rejected, beta), rtol=1e-9, atol=1e-9)  # unbiased


@given(st.floats(-40, 0), st.floats(-40, 0))
def test_odds_are_finite_and_so_are_gradients(chosen, rejected):
    for dtype in (torch.float32, torch.float64):
        pair = [torch.tensor([x], dtype=dtype, requires_grad=True) for x in (chosen, rejected)]
        loss = orpo_loss(*pair, 0.1)
        loss.sum().backward()
        assert loss.isfinite().all()
        assert all(x.grad.isfinite().all() for x in pair)


def trl_dpo(loss_type, **settings):
    """TRL 1.x's DPOTrainer._compute_loss on tokens whose log-probabilities sum to CHOSEN and REJECTED; references 0."""
    from trl import DPOTrainer

    lengths = torch.cat(LENGTHS)
    mask = torch.arange(1, 7)[None] <= lengths[:, None]
    totals = torch.cat([CHOSEN, REJECTED])
    logprobs = torch.where(mask, (totals / lengths)[:, None], 0.0)
    first = torch.zeros(4, 1)  # the first token is predicted by nothing
    inputs = {
        "input_ids": torch.zeros(4, 7, dtype=torch.int64),
        "attention_mask": torch.ones(4, 7, dtype=torch.int64),
        "completion_mask": torch.cat([first, mask.double()], dim=1).long(),
        "ref_chosen_logps": torch.zeros(2, dtype=torch.float64),
        "ref_rejected_logps": torch.zeros(2, dtype=torch.float64),
    }
    trainer = MagicMock()
    trainer.loss_types, trainer.loss_weights = [loss_type], [1.0]
    trainer.ld_alpha, trainer.precompute_ref_logps, trainer.f_divergence_type = None, True, "reverse_kl"
    trainer.use_weighting, trainer.aux_loss_enabled = False, False
    trainer.accelerator.device = "cpu"
    trainer.accelerator.gather_for_metrics = lambda x: x
    for name, value in settings.items():
        setattr(trainer, name, value)
    statistics = {"entropy": logprobs, "mean_logits": logprobs, "is_top1": mask}  # what it logs besides
    model = MagicMock(return_value=MagicMock(log_probs=logprobs, **statistics))
    return DPOTrainer._compute_loss(trainer, model, inputs, return_outputs=False)


def test_as_trl():
    """One value each, of two pairs of unequal lengths; label smoothing as in TRL's CPO, as its DPO has none since 1.0.

    KTO on pairs left TRL before 1.0: its numbers are derived by hand above.
    """
    averaged = [x / n for x, n in zip((CHOSEN, REJECTED), LENGTHS, strict=True)]
    assert_close(sigmoid_loss(CHOSEN, REJECTED, 0.1).mean(), trl_dpo("sigmoid", beta=0.1))
    assert_close(hinge_loss(CHOSEN, REJECTED, 0.1).mean(), trl_dpo("hinge", beta=0.1))
    assert_close(ipo_loss(*averaged, 0.1).mean(), trl_dpo("ipo", beta=0.1))
    robust = trl_dpo("robust", beta=0.1, label_smoothing=0.2)
    assert_close(robust_loss(CHOSEN, REJECTED, 0.1, 0.2).mean(), robust)


def test_as_trl_s_experiments(monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")  # trl.experimental warns of itself
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    def trl(loss_type, chosen, rejected, **settings):
        fake = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"), loss_type=loss_type, alpha=0.0, **settings)
        return CPOTrainer.cpo_loss(fake, chosen, rejected)[0]

    smoothed = trl("sigmoid", CHOSEN, REJECTED, beta=0.1, label_smoothing=0.2)
    assert_close(sigmoid_loss(CHOSEN, REJECTED, 0.1, 0.2), smoothed)
    chosen, rejected = -CHOSEN.abs(), -REJECTED.abs() - 0.1
    assert_close(
        simpo_loss(chosen, rejected, 2.0, 0.7),
        trl("simpo", chosen, rejected, beta=2.0, simpo_gamma=0.7, label_smoothing=0.0),
    )
    fake = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"), beta=0.1)
    ratio = ORPOTrainer.odds_ratio_loss(fake, chosen, rejected)[0].double()  # in fp32
    torch.testing.assert_close(orpo_loss(chosen, rejected, 0.1), -chosen - ratio, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_no_margin_is_log_two(beta):
    assert_close(sigmoid_loss(CHOSEN, CHOSEN, beta), [math.log(2)] * 2)
    assert_close(sigmoid_loss(CHOSEN, CHOSEN, beta, 0.3), [math.log(2)] * 2)
