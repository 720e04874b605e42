"""Two real processes (gloo) under FSDP2: adapters that are exported from shards, and preference tuning."""

import pytest
import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.utils.data import DataLoader

from ppl import checkpoints
from ppl.exporting.export import export
from ppl.modules.dpo import DPOModule
from ppl.modules.lora import LoRA
from ppl.modules.parts import LearningRates
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.preference_losses import Sigmoid
from ppl.modules.reference import AdaptersOff
from ppl.strategies.fsdp2 import FSDP2Strategy
from tests.exporting.tiny_runs import base, fit
from tests.modules.pairs import pair_batch
from tests.modules.tiny import image, make_batch, tiny_aligner, tiny_backbone, video
from tests.quiet import quiet_trainer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # two processes beside others' work
    pytest.mark.filterwarnings("ignore:Attribute '.*' (is an instance of `nn.Module`|removed from hparams)"),
    pytest.mark.filterwarnings("ignore:It is recommended to use `self.log"),  # of what is the same on all ranks
]
TWO = ("-c", "recipes/overlays/fsdp2.yaml", "--trainer.devices=2", "--trainer.precision=32-true")
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
ADAPTERS_ALONE = LearningRates(None, None, None, None, None, None, 1e-2, None)


def tune(rank, source, folder):
    """What each process does."""
    fit(source, folder, *TWO)


def test_adapters_are_exported_from_shards(two_processes, tmp_path):
    two_processes.run(tune, base(tmp_path), tmp_path / "run")
    shards = tmp_path / "run/checkpoints/step=2.ckpt"
    tuned = checkpoints.load(shards)
    state = tuned.state_dict()
    assert all(tensor.any() for name, tensor in state.items() if ".lora_B." in name), "adapters have moved"
    assert not export(shards, tmp_path / "apart")
    again = checkpoints.load(tmp_path / "apart").state_dict()
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())
    assert export(shards, tmp_path / "merged", merge=True)
    batch = make_batch(tuned.model, ([video(4)], "what colour is the square ?", "red"))
    with torch.no_grad():
        merged = checkpoints.load(tmp_path / "merged").model(batch)
        torch.testing.assert_close(merged, tuned.model(batch), atol=1e-5, rtol=1e-5)  # sums in another order


class PlainDescent(DPOModule):
    """Adam would hide a gradient that is too large by a factor; plain descent does not."""

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)

    def on_save_checkpoint(self, checkpoint):
        pass


def build():
    torch.manual_seed(0)
    pooler, lora = WeightedPooler((2, 3, 2), None, (1, 3, 2)), LoRA(4, 8.0, 0.0)
    parts = {"aligner": tiny_aligner(), "lora": lora, "learning_rates": ADAPTERS_ALONE}
    return PlainDescent(tiny_backbone(), pooler, Sigmoid(0.1), AdaptersOff(), **parts).double()


def pairs(ranks):
    """Pairs of some ranks: media of every kind and none, answers of any length."""
    torch.manual_seed(1)
    question = "what colour is the square ?"
    rows = [
        [([video(4)], question, "red", "a long blue one"), ([], "so ?", "no", "yes it is")],
        [([image(40, 90)], question, "a green ring", "red"), ([video(2)], question, "blue", "no")],
    ]
    return [row for rank in ranks for row in rows[rank]]


def prefer(folder, ranks, **options):
    """Two steps on a batch and a validation; returns the module, its weights and what was logged."""
    module = build()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    loader = DataLoader([pair_batch(module.model, *pairs(ranks))], batch_size=None, collate_fn=lambda batch: batch)
    trainer = quiet_trainer(folder, max_epochs=2, num_sanity_val_steps=0, use_distributed_sampler=False, **options)
    trainer.fit(module, loader, loader)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    return before, get_model_state_dict(trainer.strategy.model, options=WHOLE), metrics


def prefer_in_two(rank, folder):
    """What each process does."""
    _, after, metrics = prefer(folder, [rank], devices=2, strategy=FSDP2Strategy())
    torch.save((after, metrics), folder / f"{rank}.pt")


def test_preference_tuning_of_two_processes_is_that_of_one(two_processes, tmp_path):
    two_processes.run(prefer_in_two, tmp_path)
    (after, metrics), (_, others) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    before, expected, logged = prefer(tmp_path, [0, 1])
    assert after.keys() == expected.keys()
    moved = 0
    for name, tensor in expected.items():
        # float64; a step is the difference of numbers near 1, so it has 1e-16 of noise
        torch.testing.assert_close(after[name] - before[name], tensor - before[name], rtol=1e-6, atol=1e-12)
        moved += ".lora_" in name and bool((tensor != before[name]).any())
    assert moved
    for name, value in logged.items():
        assert metrics[name] == others[name] == pytest.approx(value, rel=1e-5, abs=1e-7)  # means are in float32
