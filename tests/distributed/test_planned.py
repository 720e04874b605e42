"""What `ppl plan` says a process keeps is what two real processes (gloo) keep after a step, byte by byte.

As in test_fsdp.py, FSDP1 is told that its device is the CPU, and so is its autocast, which Lightning makes for CUDA.
"""

from contextlib import chdir
from unittest.mock import patch

import pytest
import torch
from lightning import Callback
from lightning.pytorch.plugins.precision import FSDPPrecision
from torch.distributed import fsdp
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from ppl.planning.memory import per_gpu
from ppl.planning.sample_work import Text
from ppl.planning.weights import states, weights_of
from tests.distributed.test_fsdp import OnCPU, strategy_of
from tests.distributed.two_processes import TwoProcesses
from tests.planning.measuring import ROOT, built, make_batch, recipe_words
from tests.quiet import quiet_trainer

pytestmark = pytest.mark.timeout(900)  # two processes beside others' work

LORA = "--model.lora={rank: 4, alpha: 8.0, dropout: 0.0}"
TOWER = "--model.learning_rates.vision_tower=1e-3"
CASES = [
    # strategy, precision, the backbone's dtype, other words
    ("fsdp2", "bf16-mixed", "bfloat16"),
    ("fsdp2", "bf16-mixed", "bfloat16", LORA),
    ("fsdp1", "bf16-mixed", "bfloat16"),
    ("fsdp1", "bf16-mixed", "bfloat16", LORA),
    ("ddp", "bf16-mixed", "bfloat16"),
]
"""What every test run sees."""
MORE = [
    ("fsdp2", "bf16-mixed", "float32", LORA),
    ("fsdp2", "bf16-mixed", "bfloat16", TOWER),
    ("fsdp1", "bf16-mixed", "bfloat16", TOWER),
    ("fsdp2", "32-true", "float32"),
    ("fsdp1", "32-true", "bfloat16", LORA),
    ("fsdp2", "bf16-true", "float32"),
    ("fsdp1", "bf16-true", "float32"),
    ("ddp", "bf16-mixed", "bfloat16", LORA),
    ("ddp", "32-true", "bfloat16"),
    ("ddp", "bf16-true", "float32"),
]


def words_of(dtype, *more):
    return recipe_words("llava_next", "weighted", f"--model.backbone.dtype={dtype}", *more)


def local_bytes(tensors):
    return sum((t.to_local() if isinstance(t, DTensor) else t).nbytes for t in tensors if t is not None)


class Kept(Callback):
    """Bytes of this process after the optimiser's step: weights, gradients, AdamW's state."""

    def on_train_batch_end(self, trainer, module, *_):
        weights = list(module.parameters())
        state = [value for of in trainer.optimizers[0].state.values() for value in of.values()]
        self.bytes = [local_bytes(weights), local_bytes([p.grad for p in weights]), local_bytes(state)]


def autocast_on_cpu(precision):
    return torch.autocast("cpu", torch.bfloat16, enabled=precision.precision == "bf16-mixed")


def work(rank, folder, cases):
    """What each process does."""
    with (
        chdir(ROOT),
        patch.object(fsdp, "FullyShardedDataParallel", OnCPU),
        patch.object(FSDPPrecision, "forward_context", autocast_on_cpu),
    ):
        for number, (strategy, precision, *words) in enumerate(cases):
            torch.manual_seed(0)
            _, module = built(words_of(*words))
            batch = make_batch(module, 4, Text(10, 10)) | {"ids": ["row"]}
            kept = Kept()
            trainer = quiet_trainer(folder, kept, devices=2, strategy=strategy_of(strategy), precision=precision)
            trainer.fit(module, DataLoader([batch], batch_size=None, collate_fn=lambda batch: batch))
            torch.save(kept.bytes, folder / f"{number}_{rank}.pt")


def check(cases, two_processes, folder):
    """Compare both processes together: a weight of an odd number of rows is not cut in halves."""
    two_processes.run(work, folder, cases)
    for number, (strategy, precision, *words) in enumerate(cases):
        _, module = built(words_of(*words), device="meta")
        held = states(weights_of(module), precision, strategy)
        planned = per_gpu(held, strategy, 2, 0, 0, 0)
        weights, gradients, optimizer = (
            sum(both) for both in zip(*(torch.load(folder / f"{number}_{rank}.pt") for rank in range(2)), strict=True)
        )
        # halves are rounded down; FSDP1 gives no step to a process that has nothing of a weight
        case = (strategy, precision, *words)
        assert 0 <= weights - 2 * planned.weights < 4, case
        assert 0 <= gradients - 2 * planned.gradients < 4, case
        steps = 2 * held.steps
        assert -steps // 2 <= optimizer - 2 * planned.optimizer <= (0 if strategy == "fsdp1" else 4), case


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_what_a_process_keeps_is_what_was_planned(two_processes, tmp_path):
    check(CASES, two_processes, tmp_path)


@pytest.mark.slow
def test_in_other_precisions_too(tmp_path):
    """In processes of its own, for test_fsdp.py leaves Lightning bent in the shared ones."""
    own = TwoProcesses()
    try:
        check(MORE, own, tmp_path)
    finally:
        own.close()
