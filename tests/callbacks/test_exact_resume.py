"""A run goes on from a checkpoint between epochs as if it had not stopped, bit for bit; Lightning alone does not."""

from functools import cache

import pytest
from lightning import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from ppl.callbacks.exact_resume import ExactResume
from tests.datamodules.test_resumable import SIZE, Dropping, NoiseData
from tests.quiet import quiet_trainer

# A run that goes on keeps no further checkpoints here.
pytestmark = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create")

# 11 samples in batches of 2: 6 steps an epoch, or 3 with batches accumulated by twos.
RUNS = {
    "steps, to the middle of an epoch": ({"max_steps": 14, "max_epochs": -1}, {"max_steps": 20, "max_epochs": -1}),
    "steps, to an epoch's end": ({"max_steps": 12, "max_epochs": -1}, {"max_steps": 20, "max_epochs": -1}),
    "epochs": ({"max_epochs": 2}, {"max_epochs": 4}),
    "steps, then epochs": ({"max_steps": 14, "max_epochs": -1}, {"max_epochs": 4}),
    "accumulated": (
        {"max_steps": 7, "max_epochs": -1, "accumulate_grad_batches": 2},
        {"max_steps": 11, "max_epochs": -1, "accumulate_grad_batches": 2},
    ),
    "short epochs": (
        {"max_steps": 6, "max_epochs": -1, "limit_train_batches": 4},
        {"max_steps": 11, "max_epochs": -1, "limit_train_batches": 4},
    ),
}


class SavesAt(Callback):
    """Saves each time one of the loop's hooks is called."""

    def __init__(self, hook, folder):
        def save(trainer, *_):
            trainer.save_checkpoint(folder / f"step={trainer.global_step}.ckpt")

        setattr(self, hook, save)


class Validations(Callback):
    def __init__(self):
        self.steps = []

    def on_validation_start(self, trainer, pl_module):
        self.steps.append(trainer.global_step)


def fit(callbacks, validate, checkpoint=None, **options):
    """Batches with losses, steps with validation, and Lightning's count of steps for loggers."""
    seed_everything(3, verbose=False)
    module, validations = Dropping(-1), Validations()
    checkpoints = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    quiet = {"num_sanity_val_steps": 0, "limit_val_batches": int(validate), "enable_checkpointing": checkpoints}
    trainer = quiet_trainer(None, *callbacks, validations, **quiet, **options)
    trainer.fit(module, NoiseData(SIZE, 0, seed=5), ckpt_path=checkpoint, weights_only=True)
    return module.seen, validations.steps, trainer.fit_loop.epoch_loop._batches_that_stepped


@cache
def uninterrupted(name, validate):
    return fit([], validate, **RUNS[name][1])


def saving(where, folder):
    if where == "epoch's end":
        return ModelCheckpoint(dirpath=folder, filename="{step}", save_top_k=-1)
    return SavesAt({"run's end": "on_train_end", "epoch's start": "on_train_epoch_start"}[where], folder)


CASES = [(name, "epoch's end") for name in RUNS] + [
    (name, where) for name in [*RUNS][:2] for where in ("run's end", "epoch's start")
]


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize(("name", "where"), CASES)
def test_a_run_goes_on_from_between_epochs(name, where, validate, tmp_path):
    short, long = RUNS[name]
    whole, validations, stepped = uninterrupted(name, validate)
    part, *_ = fit([saving(where, tmp_path)], validate, **short)
    assert part == whole[: len(part)]
    for checkpoint in tmp_path.glob("step=[1-9]*.ckpt"):  # there is nothing to go on with before the first batch
        step = int(checkpoint.stem.removeprefix("step="))
        again = fit([ExactResume()], validate, checkpoint, **long)
        done = step * long.get("accumulate_grad_batches", 1)
        assert again == (whole[done:], [at for at in validations if at > step], stepped), checkpoint.name


def test_lightning_alone_goes_on_wrongly(tmp_path):
    """If this fails, Lightning has mended it, and `ExactResume` can go."""
    name = "steps, to the middle of an epoch"
    short, long = RUNS[name]
    whole, *_ = uninterrupted(name, False)
    fit([saving("epoch's end", tmp_path)], False, **short)
    assert fit([], False, tmp_path / "step=12.ckpt", **long)[0] != whole[12:]
