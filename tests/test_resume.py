"""A run killed in the middle of an epoch and started again is the run that was left alone, bit for bit on the CPU."""

import json
import random
import signal
import subprocess
import sys

import pytest
import yaml

from tests.modules.tiny import ROOT
from tests.recipes.discovery import QUIET, SMALL_QUESTIONS, run

# A run that goes on saves where the first did, as it should.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")

STEPS, EPOCHS = 5, 3
WORDS = [
    *("fit", "-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml", *QUIET),
    *("--model.alignment=null", "--model.lora={rank: 2, alpha: 4.0, dropout: 0.5}", *SMALL_QUESTIONS),
    *("--data.num_questions=18", "--trainer.limit_val_batches=0"),  # 4 batches and a half of 4
    "--trainer.logger=false",
]


def words(folder, name, *more, record="", kill_at=-1):
    """The command of a run with a line each step, and a checkpoint every other step and at each epoch's end."""
    checkpoint = {"dirpath": str(folder / f"{name}_ckpt"), "every_n_train_steps": 2, "save_top_k": -1}
    ends = {"dirpath": str(folder / f"{name}_ends"), "save_top_k": -1, "every_n_epochs": 1}
    callbacks = [
        *(
            {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": where}
            for where in (checkpoint, ends)
        ),
        {
            "class_path": "tests.step_recorder.StepRecorder",
            "init_args": {"file": str(folder / (record or name)), "kill_at": kill_at},
        },
    ]
    overlay = folder / f"{name}.yaml"
    overlay.write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    return [*WORDS, "-c", str(overlay), f"--trainer.default_root_dir={folder / f'{name}_run'}", *more]


def steps(folder, name, rank=0):
    return [json.loads(line) for line in (folder / f"{name}_{rank}").read_text().splitlines()]


def last_checkpoint(folder, name):
    found = (folder / f"{name}_ckpt").glob("*.ckpt")
    return max(found, key=lambda path: int(path.stem.split("step=")[1]))


def start(words):
    return subprocess.Popen([sys.executable, "-m", "ppl", *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


BY_EPOCHS = ("--trainer.max_steps=-1", f"--trainer.max_epochs={EPOCHS}")
BY_STEPS = (f"--trainer.max_steps={STEPS * EPOCHS}", "--trainer.max_epochs=-1")


def test_killed_and_resumed(folder):
    rng = random.Random(0)
    run(*words(folder, "whole", *BY_EPOCHS))
    whole = steps(folder, "whole")
    assert len(whole) == STEPS * EPOCHS
    for epoch in range(EPOCHS):
        ids = [name for of, names, _ in whole if of == epoch for name in names]
        assert sorted(ids) == sorted(f"0-{index}" for index in range(18))
    killed = {}
    for name, end, workers in (("epochs", BY_EPOCHS, 0), ("steps", BY_STEPS, 0), ("workers", BY_STEPS, 2)):
        more = (*end, f"--data.num_workers={workers}")
        at = rng.randrange(3, STEPS * EPOCHS)
        killed[name] = more, at, start(words(folder, name, *more, kill_at=at))
    for name, (more, at, process) in killed.items():
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        assert steps(folder, name) == whole[:at]
        checkpoint = last_checkpoint(folder, name)
        done = int(checkpoint.stem.split("step=")[1])
        run(*words(folder, name, *more, f"--ckpt_path={checkpoint}", record=f"{name}_again"))
        assert steps(folder, f"{name}_again") == whole[done:], f"killed in step {at}, {name}"
    [checkpoint] = (folder / "whole_ends").glob(f"*step={STEPS}.ckpt")
    run(*words(folder, "whole", *BY_STEPS, f"--ckpt_path={checkpoint}", record="ended"))
    assert steps(folder, "ended") == whole[STEPS:], "from an epoch's end"
