"""Every run has its guards, whatever callbacks and plugins its recipe names."""

from lightning.pytorch.callbacks import Checkpoint

from ppl.callbacks.loss_spikes import LossSpikes
from ppl.callbacks.non_finite_steps import NonFiniteSteps
from ppl.callbacks.out_of_memory import OutOfMemory
from ppl.callbacks.preemption import Preemption
from ppl.saving.checkpoint_io import BackgroundCheckpointIO, VerifiedCheckpointIO
from tests.recipes.discovery import QUIET, SMALL_QUESTIONS, run

WORDS = [
    *("fit", "-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml"),
    *("--model.alignment=null", *SMALL_QUESTIONS, *QUIET, "--trainer.limit_val_batches=0"),
]


def kinds(trainer):
    return [type(callback) for callback in trainer.callbacks]


def test_beside_the_recipe_s_own_callbacks(tmp_path):
    trainer = run(*WORDS, f"--trainer.default_root_dir={tmp_path}").trainer
    found = kinds(trainer)
    for guard in (OutOfMemory, LossSpikes, NonFiniteSteps, Preemption):
        assert found.count(guard) == 1
    names = [kind.__name__ for kind in found]
    assert names.index("GradientCheck") < names.index("NonFiniteSteps"), "which drops gradients"
    after = found[found.index(Preemption) + 1 :]
    assert all(issubclass(kind, Checkpoint) or kind.__name__ == "RunRecord" for kind in after)
    assert type(trainer.strategy.checkpoint_io) is VerifiedCheckpointIO
    assert trainer.callback_metrics["train/skipped_steps"] == 0


def test_a_recipe_s_own_guard_takes_the_default_s_place(tmp_path):
    own = ["--trainer.callbacks+=ppl.callbacks.non_finite_steps.NonFiniteSteps", "--trainer.callbacks.max_skipped=5"]
    io = "--trainer.plugins+=ppl.saving.checkpoint_io.BackgroundCheckpointIO"
    trainer = run(*WORDS, *own, io, f"--trainer.default_root_dir={tmp_path}").trainer
    found = kinds(trainer)
    assert found.count(NonFiniteSteps) == 1
    assert trainer.callbacks[found.index(NonFiniteSteps)].max_skipped == 5
    assert found.index(NonFiniteSteps) < found.index(Preemption)
    assert type(trainer.strategy.checkpoint_io) is BackgroundCheckpointIO
    assert len(list(tmp_path.rglob("*.ckpt"))) == 1


def test_a_recipe_s_only_callback_need_be_no_list(tmp_path):
    own = ["--trainer.callbacks=ppl.callbacks.non_finite_steps.NonFiniteSteps", "--trainer.callbacks.max_skipped=5"]
    trainer = run(*WORDS, *own, f"--trainer.default_root_dir={tmp_path}").trainer
    (guard,) = [callback for callback in trainer.callbacks if isinstance(callback, NonFiniteSteps)]
    assert guard.max_skipped == 5
