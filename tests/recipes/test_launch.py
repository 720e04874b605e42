"""The launch templates, run for real on this machine: started, signalled in the middle of a step, started again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.distributed.two_processes import free_port
from tests.modules.tiny import ROOT
from tests.recipes.discovery import QUIET, RECIPES, SMALL_QUESTIONS, run
from tests.test_resume import steps

# A run that goes on saves where the first did, as it should.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]

SCRIPTS = sorted((RECIPES / "launch").iterdir())
STOP_AT, STEPS = 4, 9
WORDS = [
    *("-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml", *QUIET, *SMALL_QUESTIONS),
    *("--model.alignment=null", "--model.lora={rank: 2, alpha: 4.0, dropout: 0.5}", "--data.num_questions=18"),
    *(f"--trainer.max_steps={STEPS}", "--trainer.max_epochs=-1", "--trainer.limit_val_batches=0"),
    "--trainer.logger=false",
]
SRUN = """#!/bin/sh
# As if srun had started the job's only task; its own options are dropped.
while [ "${1#--}" != "$1" ]; do shift; done
export SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0
exec "$@"
"""


def words(folder, name, *more, record, stop_at=-1, by=signal.SIGTERM):
    """The words of a run with a line for each step, and a signal to itself in one of them."""
    checkpoint = {"dirpath": str(folder / f"{name}_ckpt"), "filename": "last", "enable_version_counter": False}
    recorder = {"file": str(folder / record), "kill_at": stop_at, "by": int(by)}
    callbacks = [
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": checkpoint},
        {"class_path": "tests.step_recorder.StepRecorder", "init_args": recorder},
    ]
    overlay = folder / f"{record}.yaml"
    overlay.write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    return [*WORDS, "-c", str(overlay), f"--trainer.default_root_dir={folder / f'{name}_run'}", *more]


def program(folder, name, text):
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path.parent)


def start(script, words, environment):
    """Run a template; `python` and `torchrun` are this environment's."""
    path = os.pathsep.join([environment.get("PATH", ""), str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", str(RECIPES / "launch" / script), *words]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment, "PATH": path}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_template_is_sound(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    checker = str(Path(sys.executable).with_name("shellcheck"))
    found = subprocess.run([checker, str(script)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.mark.slow
def test_a_slurm_job_is_warned_requeues_and_goes_on(tmp_path):
    run("fit", *words(tmp_path, "whole", record="whole"))
    whole = steps(tmp_path, "whole")
    assert len(whole) == STEPS
    path = program(tmp_path, "srun", SRUN)
    program(tmp_path, "scontrol", f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.log\n')
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "ppl", "SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "1"}
    job["PATH"] = path
    first = start("slurm.sbatch", words(tmp_path, "job", record="first", stop_at=STOP_AT, by=signal.SIGUSR1), job)
    assert first.returncode == 128 + signal.SIGUSR1, first.stderr
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4711\n"
    assert steps(tmp_path, "first") == whole[: STOP_AT + 1]
    assert (tmp_path / "job_run/hpc_ckpt_1.ckpt").exists()
    second = start("slurm.sbatch", words(tmp_path, "job", record="second"), job)
    assert second.returncode == 0, second.stderr
    assert steps(tmp_path, "second") == whole[STOP_AT + 1 :]


@pytest.mark.slow
def test_torchrun_is_told_to_stop_and_goes_on(tmp_path):
    """Two processes; the signal goes to one of them, and the others follow."""
    ddp = ("--trainer.strategy=ddp", "--trainer.accelerator=cpu")
    place = {"GPUS": "2", "PORT": free_port()}
    alone = start("torchrun.sh", words(tmp_path, "whole", *ddp, record="whole"), place)
    assert alone.returncode == 0, alone.stderr
    first = start("torchrun.sh", words(tmp_path, "job", *ddp, record="first", stop_at=STOP_AT), place)
    assert first.returncode != 0
    assert "saved" in first.stderr
    second = start("torchrun.sh", words(tmp_path, "job", *ddp, record="second"), place)
    assert second.returncode == 0, second.stderr
    for rank in range(2):
        whole = steps(tmp_path, "whole", rank)
        assert [*steps(tmp_path, "first", rank), *steps(tmp_path, "second", rank)] == whole
        assert len(steps(tmp_path, "first", rank)) == STOP_AT + 1
