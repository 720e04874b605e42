"""A run that is told to stop, by whatever signal and wherever in a step, goes on later as if it had not been."""

import os
import signal

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from ppl.callbacks.preemption import Preemption
from ppl.saving.checkpoint_io import VerifiedCheckpointIO
from tests.callbacks.regression import Batches, Regression, batch
from tests.quiet import quiet_trainer

# Checkpoints of what was interrupted are there when the run goes on, as they should be.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")

NUM_BATCHES, EPOCHS = 6, 2
MID_STEP = ("on_train_batch_start", "on_before_backward", "on_before_optimizer_step")


class Signalled(Callback):
    """Send this process signals at a hook of a batch, counted from the run's start; note weights after each batch."""

    def __init__(self, hook="", at=-1, numbers=()):
        self.at, self.numbers = at, numbers
        self.seen, self.weights, self.validations = 0, [], 0
        if hook:
            setattr(self, hook, self._send)

    def _send(self, *_, **__):
        if self.seen == self.at:
            self.at = -1
            for number in self.numbers:
                os.kill(os.getpid(), number)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen += 1
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.weights.append([rate, *(p.detach().clone() for p in pl_module.parameters())])

    def on_validation_end(self, trainer, pl_module):
        self.validations += 1


class Validated(Regression):
    def validation_step(self, batch, batch_idx):
        self.log("val/loss", (self.model(batch["x"]).squeeze(1) - batch["y"]).square().mean(), batch_size=8)


def fit(folder, signalled, *more, ckpt_path=None, validate=False, **options):
    saver = ModelCheckpoint(folder / "checkpoints", filename="last", enable_version_counter=False)
    callbacks = [signalled, *more, Preemption(), saver]
    plugins = [VerifiedCheckpointIO()]
    run = quiet_trainer(folder, *callbacks, enable_checkpointing=True, max_epochs=EPOCHS, plugins=plugins, **options)
    module, val = (Validated(), Batches([batch(100 + n) for n in range(3)])) if validate else (Regression(), None)
    run.fit(module, Batches([batch(number) for number in range(NUM_BATCHES)]), val, ckpt_path=ckpt_path)
    return run


def same(some, others):
    return len(some) == len(others) and all(
        one[0] == other[0] and all(map(torch.equal, one[1:], other[1:]))
        for one, other in zip(some, others, strict=True)
    )


def interrupted(folder, hook, at, number, **options):
    """Returns weights after each batch up to the signal, and from there on in a run that resumes."""
    first, second = Signalled(hook, at, [number]), Signalled()
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    with pytest.raises(SystemExit) as stopped:
        fit(folder, first, **options)
    assert stopped.value.code == 128 + number
    assert {each: signal.getsignal(each) for each in handlers} == handlers, "the earlier handlers are back"
    fit(folder, second, ckpt_path="last", **options)
    return first.weights, second.weights


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("hook", MID_STEP)
@pytest.mark.parametrize("at", [0, 3, NUM_BATCHES - 1, NUM_BATCHES + 2])
def test_it_goes_on_exactly(number, hook, at, tmp_path, capfd):
    whole = Signalled()
    fit(tmp_path / "whole", whole)
    before, after = interrupted(tmp_path, hook, at, number)
    assert len(before) == at + 1, "the step is finished, no other begun"
    assert same([*before, *after], whole.weights)
    assert f"{number.name}: the run stops after this step and saves a checkpoint" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"], "what is of no use is gone"


@pytest.mark.parametrize("at", [2, 3])
def test_accumulated_gradients_are_waited_for(at, tmp_path):
    whole = Signalled()
    fit(tmp_path / "whole", whole, accumulate_grad_batches=2)
    before, after = interrupted(tmp_path, "on_before_backward", at, signal.SIGTERM, accumulate_grad_batches=2)
    assert len(before) == 4
    assert same([*before, *after], whole.weights)


def test_in_the_middle_of_a_validation(tmp_path):
    whole, options = Signalled(), {"validate": True, "val_check_interval": 2, "num_sanity_val_steps": 2}
    fit(tmp_path / "whole", whole, **options)
    before, after = interrupted(tmp_path, "on_validation_batch_start", 4, signal.SIGTERM, **options)
    assert len(before) == 4
    assert same([*before, *after], whole.weights)


def test_averaged_weights_are_not_taken_for_the_model_s(tmp_path):
    options = {"validate": True, "val_check_interval": 2, "num_sanity_val_steps": 0}
    whole = Signalled()
    fit(tmp_path / "whole", whole, EMAWeightAveraging(decay=0.5), **options)
    first, second = Signalled("on_validation_batch_start", 4, [signal.SIGTERM]), Signalled()
    with pytest.raises(SystemExit):
        fit(tmp_path, first, EMAWeightAveraging(decay=0.5), **options)
    assert len(first.weights) == 5, "after the validation, when the model has its own weights again"
    fit(tmp_path, second, EMAWeightAveraging(decay=0.5), ckpt_path="last", **options)
    assert same([*first.weights, *second.weights], whole.weights)


def test_a_second_interrupt_stops_at_once(tmp_path):
    signalled = Signalled("on_before_backward", 3, [signal.SIGINT, signal.SIGINT])
    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path, signalled)
    assert stopped.value.code == 1, "Lightning's own answer"
    assert len(signalled.weights) == 3
    assert not (tmp_path / "checkpoints/last-preempted.ckpt").exists()


def test_a_checkpoint_stays_while_none_is_newer(tmp_path):
    with pytest.raises(SystemExit):
        fit(tmp_path, Signalled("on_before_backward", 4, [signal.SIGTERM]))
    fit(tmp_path, Signalled(), ckpt_path="last", limit_train_batches=0)
    assert (tmp_path / "checkpoints/last-preempted.ckpt").exists()


def test_without_a_saver_it_is_in_the_run_s_folder(tmp_path):
    run = quiet_trainer(tmp_path, Signalled("on_before_backward", 1, [signal.SIGTERM]), Preemption())
    with pytest.raises(SystemExit):
        run.fit(Regression(), Batches([batch(number) for number in range(4)]))
    assert torch.load(tmp_path / "checkpoints/last-preempted.ckpt", weights_only=True)["global_step"] == 2


class Forked(Signalled):
    """A loader's worker that gets the signal too: it only counts in the run's own process."""

    def _send(self, *_, **__):
        if self.seen == self.at:
            child = os.fork()
            if not child:
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0


def test_a_forked_process_does_nothing(tmp_path, capfd):
    fit(tmp_path, Forked("on_before_backward", 1))
    assert "SIGTERM" not in capfd.readouterr().err


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The environment of a job of one process, and a `scontrol` that notes what it is told."""
    job = {"JOB_ID": "4711", "JOB_NAME": "train", "NTASKS": "1", "NTASKS_PER_NODE": "1", "NNODES": "1"}
    for name, value in (job | {"PROCID": "0", "LOCALID": "0", "NODEID": "0"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    program = tmp_path / "bin/scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.log\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return tmp_path / "scontrol.log"


@pytest.mark.parametrize("ckpt_path", [None, "last"])
@pytest.mark.parametrize("hook", MID_STEP)
def test_a_slurm_job_requeues_itself_and_goes_on(hook, ckpt_path, slurm, tmp_path):
    whole, runs = Signalled(), [Signalled(hook, at, [signal.SIGUSR1]) for at in (3, 5)]
    fit(tmp_path / "whole", whole)
    folder = tmp_path / "run"
    for requeued, run in enumerate(runs, 1):
        with pytest.raises(SystemExit) as stopped:
            fit(folder, run, ckpt_path=ckpt_path if requeued > 1 else None)
        assert stopped.value.code == 128 + signal.SIGUSR1
        assert slurm.read_text().splitlines() == ["requeue 4711"] * requeued
        assert [path.name for path in folder.glob("*.ckpt")] == [f"hpc_ckpt_{requeued}.ckpt"], "of several, the newest"
    last = Signalled()
    fit(folder, last, ckpt_path=ckpt_path)
    assert same([*runs[0].weights, *runs[1].weights, *last.weights], whole.weights)
    assert not list(folder.glob("*.ckpt")), "the next run of the folder starts anew"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
