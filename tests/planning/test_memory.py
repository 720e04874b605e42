"""Distribution and height, by hand; what strategies keep is of test_weights.py."""

from dataclasses import replace

import pytest

from ppl.planning.memory import CONTEXT, Memory, States, per_gpu

STATES = States(weights=1000, trained=800, trained_tensors=5, low_precision=30)
CUT = replace(STATES, whole=40, gathered=400)


def test_one_process_and_ddp_hold_everything():
    single, ddp = (per_gpu(STATES, strategy, 8, 300, 50, 70) for strategy in ("single", "ddp"))
    assert (single.weights, single.gradients, single.optimizer, single.communication) == (1000, 800, 1620, 0)
    assert single.total == CONTEXT + 1000 + 800 + 1620 + 800, "AdamW's step needs more than activations do"
    assert ddp.communication == 800
    assert per_gpu(STATES, "ddp", 1, 300, 50, 70).communication == 0


@pytest.mark.parametrize("strategy", ["fsdp1", "fsdp2"])
def test_fsdp_shards_all_but_what_it_leaves_whole(strategy):
    memory = per_gpu(CUT, strategy, 8, 900, 50, 70)
    assert (memory.weights, memory.gradients, memory.optimizer) == (40 + 960 // 8, 100, 1600 // 8 + 20)
    assert memory.communication == 400
    assert memory.total == CONTEXT + 160 + 100 + 220 + 400 + 980


def test_one_process_of_fsdp_gathers_nothing():
    assert per_gpu(CUT, "fsdp2", 1, 0, 0, 0).communication == 0


def test_the_height_is_the_largest_moment():
    def total(activations, tower, step):
        return Memory(0, 0, 0, 0, 0, activations, 0, tower, step).total - CONTEXT

    assert (total(3, 2, 1), total(1, 3, 2), total(1, 2, 3)) == (3, 3, 3)


def test_what_fits():
    memory = Memory(2**30, 0, 0, 0, 0, 0, 0, 0, 0)
    assert memory.fits(2.0 * 2**30)
    assert not memory.fits(2.0 * 2**30 - 1)
