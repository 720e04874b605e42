"""Two real processes (gloo) skip, stop and save together: whatever happens to one of them, both do the same."""

import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.distributed.fsdp import fully_shard

from ppl.callbacks.kept_batch import read_batch
from ppl.callbacks.non_finite_steps import NonFiniteSteps
from ppl.callbacks.preemption import Preemption
from ppl.saving import checkpoint_io
from ppl.saving.checkpoint_io import PARTIAL, VerifiedCheckpointIO
from ppl.strategies.fsdp2 import FSDP2Strategy
from tests.callbacks.regression import Batches, Regression, batch
from tests.callbacks.test_preemption import Signalled
from tests.quiet import quiet_trainer

BAD_RANK, STEPS = 1, 6


class Sharded(Regression):
    """Cut over both processes; one number of one shard of a gradient can be made bad."""

    bad_at = -1

    def configure_model(self):
        if self.device_mesh is not None:
            fully_shard(self.model, mesh=self.device_mesh["data_parallel"])

    def on_after_backward(self):
        if self.trainer.global_step == self.bad_at and self.global_rank == BAD_RANK:
            self.model[0].weight.grad.to_local()[0, 0] = float("inf")


class Damage(Callback):
    """Change a bit of what the second process has written, before it is read back."""

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        if trainer.global_step == 2 and trainer.global_rank == BAD_RANK:
            barrier = trainer.strategy.barrier

            def damage(*_):
                (file,) = Path(trainer.default_root_dir).glob(f"checkpoints/{PARTIAL}/__{BAD_RANK}_*.distcp")
                content = bytearray(file.read_bytes())
                content[content.index(pl_module.model[0].weight.to_local().detach().numpy().tobytes())] ^= 1
                file.write_bytes(content)
                trainer.strategy.barrier = barrier
                barrier()

            strategy_save = trainer.strategy._save_distributed_checkpoint
            assert strategy_save
            calls = iter([barrier, damage])
            trainer.strategy.barrier = lambda *args: next(calls)(*args)


def rank_batches(rank, bad_at=-1):
    """Other batches on each rank; the second's may have a bad one."""
    return [batch(10 * rank + n, "nan" if n == bad_at and rank == BAD_RANK else "") for n in range(STEPS)]


def fit(folder, rank, *callbacks, module=None, bad_at=-1, ckpt_path=None, save=True, **options):
    module = module or Regression(constant_rate=True)
    saver = [ModelCheckpoint(folder / "checkpoints", filename="last", enable_version_counter=False)] if save else []
    options = {"strategy": "ddp", "plugins": [VerifiedCheckpointIO()], "max_epochs": 2, **options}
    run = quiet_trainer(folder, *callbacks, *saver, enable_checkpointing=save, devices=2, **options)
    run.fit(module, Batches(rank_batches(rank, bad_at)), ckpt_path=ckpt_path)
    return module


def outcome(folder, rank, *callbacks, **options):
    """How a run ended."""
    try:
        fit(folder, rank, *callbacks, **options)
    except (Exception, SystemExit) as error:
        return type(error).__name__, str(error)
    return "", ""


def skipping(folder, rank):
    """A bad loss on one rank, under DDP, and a bad shard of a gradient, under FSDP2."""
    results = {}
    for name, bad_at, limit in (("bad", 2, 20), ("limit", 2, 1)):
        seen, guard = Signalled(), NonFiniteSteps(limit)
        options = {"save": False, "bad_at": bad_at, "max_epochs": 1}
        results[name] = (outcome(folder / name, rank, seen, guard, **options), seen.weights, guard.skipped)
    module, guard = Sharded(constant_rate=True), NonFiniteSteps()
    module.bad_at = 2
    states = Shards()
    strategy = FSDP2Strategy(save_distributed_checkpoint=True)
    fit(folder / "shards", rank, states, guard, module=module, save=False, strategy=strategy, max_epochs=1)
    results["shards"] = (states.weights, guard.skipped)
    return results


class Shards(Callback):
    def __init__(self):
        self.weights = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.weights.append([p.to_local().detach().clone() for p in pl_module.parameters()])


def stopping(folder, rank):
    """One rank gets a signal in the middle of a step; the run goes on later; another is left alone."""
    whole = Signalled()
    fit(folder / "whole", rank, whole, Preemption())
    results = {"whole": whole.weights}
    for number in (signal.SIGTERM, signal.SIGINT):
        first = Signalled("on_before_backward", 7, [number] if rank == BAD_RANK else [])
        ended = outcome(folder / number.name, rank, first, Preemption())
        second = Signalled()
        fit(folder / number.name, rank, second, Preemption(), ckpt_path="last")
        results[number.name] = (ended, first.weights, second.weights)
    return results


def saving(folder, rank):
    """Folders that both write: without room, damaged, and whole."""
    results = {}
    usage = shutil.disk_usage
    for name, more, free in (("whole", [], None), ("damaged", [Damage()], None), ("full", [], 1 << 20)):
        if free is not None and rank == 0:
            checkpoint_io.shutil.disk_usage = lambda _: SimpleNamespace(free=1 << 20)
        strategy = FSDP2Strategy(save_distributed_checkpoint=True)
        saver = ModelCheckpoint(folder / name / "checkpoints", filename="last", enable_version_counter=False)
        saver._every_n_epochs, saver._every_n_train_steps = 0, 1
        options = {"module": Sharded(), "save": False, "strategy": strategy, "max_epochs": 1}
        options["enable_checkpointing"] = True
        results[name] = outcome_of_saver(folder / name, rank, saver, *more, **options)
        shutil.disk_usage = usage
    return results


def outcome_of_saver(folder, rank, saver, *more, module, strategy, **_):
    run = quiet_trainer(folder, *more, saver, enable_checkpointing=True, devices=2, strategy=strategy)
    try:
        run.fit(module, Batches(rank_batches(rank)))
    except (ValueError, OSError) as error:
        return type(error).__name__, str(error)
    return "", ""


def work(rank, folder):
    """What each process does."""
    results = {each.__name__: each(folder / each.__name__, rank) for each in (skipping, stopping, saving)}
    torch.save(results, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def results(two_processes, tmp_path_factory):
    """What both processes saw, and their folder."""
    folder = tmp_path_factory.mktemp("results")
    two_processes.run(work, folder)
    return folder, [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def same(some, others):
    assert len(some) == len(others)
    return all(
        torch.equal(torch.as_tensor(a), torch.as_tensor(b))
        for one, other in zip(some, others, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_a_bad_loss_of_one_rank_is_skipped_by_both(results):
    folder, ranks = results
    for each in ranks:
        _, weights, skipped = each["skipping"]["bad"]
        assert skipped == 1
        assert same([weights[2]], [weights[1]])
        assert not same([weights[3]], [weights[2]])
    assert same(ranks[0]["skipping"]["bad"][1], ranks[1]["skipping"]["bad"][1]), "the ranks stay together"
    (kept,) = (folder / "skipping/bad/non_finite").iterdir()
    assert kept.name == f"step_2_rank_{BAD_RANK}_batch_0", "only the rank whose batch it was"
    assert read_batch(kept).batch["ids"] == batch(12)["ids"]


def test_the_limit_stops_both(results):
    for each in results[1]:
        (kind, message), weights, _ = each["skipping"]["limit"]
        assert kind == "ValueError"
        assert "got 1 steps with a loss or gradient that is not finite" in message
        assert len(weights) == 3


def test_a_bad_shard_of_one_rank_is_skipped_by_both(results):
    for each in results[1]:
        weights, skipped = each["skipping"]["shards"]
        assert skipped == 1
        assert same([weights[2]], [weights[1]])
        assert not same([weights[1]], [weights[0]])
        assert not same([weights[3]], [weights[2]])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_rank_stops_both_and_they_go_on_exactly(number, results):
    for each in results[1]:
        (kind, status), before, after = each["stopping"][number.name]
        assert (kind, status) == ("SIGTERMException", str(128 + number))
        assert len(before) == 8
        assert same([*before, *after], each["stopping"]["whole"])


def test_a_folder_is_whole(results):
    folder = results[0] / "saving/whole/checkpoints"
    assert [each["saving"]["whole"] for each in results[1]] == [("", "")] * 2
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]
    names = sorted(path.name for path in (folder / "last.ckpt").iterdir())
    assert names == [".metadata", "__0_0.distcp", "__1_0.distcp", "meta.pt"]
    assert torch.load(folder / "last.ckpt/meta.pt", weights_only=True)["global_step"] == STEPS


def test_a_damaged_shard_is_told_and_the_older_folder_stays(results):
    folder = results[0] / "saving/damaged/checkpoints"
    (first, other), (second, message) = (each["saving"]["damaged"] for each in results[1])
    assert first == second == "ValueError"
    assert "another process could not save a checkpoint" in other
    assert "got other values of state_dict.model.0.weight in __1_0.distcp when reading back" in message
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]
    assert torch.load(folder / "last.ckpt/meta.pt", weights_only=True)["global_step"] == 1


def test_a_full_disk_is_told_before_a_folder_is_written(results):
    folder = results[0] / "saving/full/checkpoints"
    (first, message), (second, _) = (each["saving"]["full"] for each in results[1])
    assert first == "OSError"
    assert second == "ValueError"
    assert "nothing was written" in message
    assert list(folder.iterdir()) == []
