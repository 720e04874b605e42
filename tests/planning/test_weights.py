"""What a weight is kept and gathered in, by hand; beside real processes: tests/distributed/test_planned.py."""

from contextlib import nullcontext
from typing import get_args

import pytest
import torch
from lightning import Trainer
from torch.optim import AdamW

from ppl.planning.weights import Weight, kept_size, states, strategies, weights_of
from ppl.strategies.fsdp2 import FSDP2Strategy
from tests.planning.measuring import ROOT, built, loss_of, make_batch, recipe_words

ADAPTER, BLOCK, HEAD = Weight(10, 4, True, 0, True), Weight(1000, 2, False, 0, True), Weight(300, 2, True, 1, True)
TOWER, PROJECTOR, SCALE = (
    Weight(70, 2, False, None, True),
    Weight(5, 2, True, None, True),
    Weight(1, 4, False, None, False, True),
)
WEIGHTS = [ADAPTER, BLOCK, HEAD, TOWER, PROJECTOR, SCALE]


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-true", torch.bfloat16)])
def test_states_are_what_a_step_leaves(precision, dtype):
    """Exactly: the moments have the dtype of their parameter, so bf16-true has no fp32 anywhere but the steps."""
    from tests.planning.test_sample_work import FRAMES, TEXT

    words = recipe_words("llava_next", "weighted")
    planned = states(weights_of(built(words, device="meta")[1]), precision, "single")
    _, module = built(words)
    module.to(dtype)
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = AdamW(trained)
    loss_of(module, make_batch(module, FRAMES, TEXT)).backward()
    for parameter in trained:  # rows without a gradient have one all the same in a run: Lightning's, of other batches
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    optimizer.step()
    held = sum(value.nbytes for state in optimizer.state.values() for value in state.values())
    assert planned.weights == sum(p.nbytes for p in module.parameters())
    assert planned.gradients == sum(p.grad.nbytes for p in trained)
    assert planned.moments + planned.steps == held


def test_one_process_keeps_what_the_model_was_made_of():
    module = built(recipe_words("llava_next", "weighted"), device="meta")[1]
    whole = states(weights_of(module), "bf16-mixed", "single")
    assert whole.weights == 4 * sum(p.numel() for p in module.parameters())
    linears = [m for m in module.modules() if isinstance(m, torch.nn.Linear)]
    assert whole.low_precision >= 2 * sum(m.weight.numel() for m in linears), "and autocast's copies of them"


@pytest.mark.parametrize(
    ("precision", "strategy", "sizes"),
    [
        ("bf16-mixed", "single", [4, 2, 2, 2, 2, 4]),
        ("bf16-mixed", "ddp", [4, 2, 2, 2, 2, 4]),
        ("bf16-mixed", "fsdp2", [4, 2, 4, 2, 4, 4]),
        ("bf16-mixed", "fsdp1", [4, 4, 4, 2, 4, 4]),
        ("16-mixed", "fsdp1", [4, 4, 4, 2, 4, 4]),
        ("32-true", "single", [4, 2, 2, 2, 2, 4]),
        ("32-true", "fsdp2", [4, 2, 4, 2, 4, 4]),
        ("32-true", "fsdp1", [4, 4, 4, 4, 4, 4]),
        ("bf16-true", "fsdp1", [2] * 6),
        ("16-true", "fsdp2", [2] * 6),
        ("64-true", "ddp", [8] * 6),
    ],
)
def test_bytes_of_an_element(precision, strategy, sizes):
    assert [kept_size(weight, precision, strategy) for weight in WEIGHTS] == sizes


def test_what_fsdp_cuts_and_gathers():
    """Two units in bf16 and, of a weight that trains, its gradient in bf16 and in float32; the root beside it.

    The block's unit is the larger: 1000 x (2 + 2) + 10 x (2 + 2 + 2 + 4) = 4100 bytes against 300 x 10 of the head; the
    root is the projector with its gradient, for FSDP2 in float32 and with the tower.
    """
    first, second = (states(WEIGHTS, "bf16-mixed", strategy) for strategy in ("fsdp1", "fsdp2"))
    assert first.weights == 40 + 4000 + 1200 + 140 + 20 + 4
    assert second.weights == 40 + 2000 + 1200 + 140 + 20 + 4
    assert first.trained == second.trained == 40 + 1200 + 20
    assert (first.whole, second.whole) == (140 + 4, 4)
    assert first.gathered == 4100 + 5 * (2 + 2)
    assert second.gathered == 4100 + 5 * (4 + 4) + 140
    assert (first.low_precision, second.low_precision) == (0, 2 * 5), "autocast copies the projector of FSDP2's root"
    assert states(WEIGHTS, "32-true", "fsdp1").gathered == 1000 * 8 + 10 * 12 + 5 * 8, "reduced as they are"
    assert states(WEIGHTS, "16-mixed", "fsdp1").low_precision == 2 * (10 + 1000 + 300 + 5), "gathered in float32"


def test_adapters_take_the_language_models_place():
    """As peft makes them, of the same rank, in the same units."""
    words = recipe_words("llava_next", "weighted")
    module = built(words, device="meta")[1]
    own = weights_of(built([*words, "--model.lora={rank: 4, alpha: 8.0, dropout: 0.0}"], device="meta")[1])
    assert sorted(weights_of(module, 4), key=repr) == sorted(own, key=repr)


ALL = ("64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed", "transformer-engine")


@pytest.mark.parametrize("precision", ALL)
def test_fsdp2_is_planned_where_lightning_takes_it(precision):
    refused = pytest.raises(ValueError, match="ModelParallelStrategy` does not support")
    with nullcontext() if "fsdp2" in strategies(precision, is_quantized=False) else refused:
        Trainer(strategy=FSDP2Strategy(), precision=precision, accelerator="cpu", devices=2, logger=False)


def test_fsdp1_is_planned_where_lightning_takes_it():
    from lightning.fabric.plugins.precision.fsdp import _PRECISION_INPUT

    assert {name for name in ALL if "fsdp1" in strategies(name, is_quantized=False)} == set(get_args(_PRECISION_INPUT))


def test_quantised_weights_are_not_cut():
    """`ppl.modules.sharding.check_shardable` refuses them."""
    assert strategies("bf16-mixed", is_quantized=True) == ["single", "ddp"]
