"""A run's folder says what the run was, and runs again."""

import csv
import json
import platform
import subprocess
import sys

import lightning
import peft
import pytest
import torch
import transformers
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ppl import __version__
from tests.modules.tiny import ROOT
from tests.recipes.discovery import SMALL_QUESTIONS, run

# Synthetic data have videos only, which LLaVA-NeXT lays out without newlines.

WORDS = [
    *("-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml", "--model.alignment=null"),
    *SMALL_QUESTIONS,
    *("--model.lora={rank: 2, alpha: 4.0, dropout: 0.5}", "--trainer.log_every_n_steps=1", "--seed_everything=7"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two steps, then another from the recipe that it left, in a process of its own."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", ["ppl"])
        run("fit", *WORDS, f"--trainer.default_root_dir={folder}")
        before = (folder / "config.yaml").read_text()
        words = ["fit", "-c", str(folder / "config.yaml")]
        again = subprocess.run(
            [sys.executable, "-m", "ppl", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert again.returncode == 0, again.stderr
        assert "tokens/s" in again.stdout
        assert (folder / "config.yaml").read_text() == before
    return folder


def column(folder, version, name):
    with (folder / "csv" / version / "metrics.csv").open() as file:
        return [row[name] for row in csv.DictReader(file) if row.get(name)]


def test_it_runs_again_from_its_own_recipe_to_the_same_losses(folder):
    losses = [column(folder, f"version_{version}", "train/loss") for version in (0, 1)]
    assert len(losses[0]) == 2
    assert losses[0] == losses[1]
    assert column(folder, "version_0", "val/loss") == column(folder, "version_1", "val/loss")


def test_every_start_is_recorded(folder):
    first, again = map(json.loads, (folder / "run.jsonl").read_text().splitlines())
    assert again["command"].endswith(f"fit -c {folder}/config.yaml")
    for line in (first, again):
        assert line["stage"] == "fit"
        assert line["seeds"] == {"seed_everything": 7, "data": 0}
        versions = line["versions"]
        assert versions["python"] == platform.python_version()
        assert versions["ppl"] == __version__
        for package in (torch, lightning, transformers, peft):
            assert versions[package.__name__] == package.__version__.split("+")[0]
        assert (line["device"]["type"], line["device"]["processes"]) == ("cpu", 1)
        assert line["precision"] == "32-true"
        assert line["working_directory"] == str(ROOT)
        assert set(line["source"]) == {"commit", "changed"}


def test_all_loggers_get_the_recipe(folder):
    for file in (folder / "hparams.yaml", folder / "csv" / "version_0" / "hparams.yaml"):
        recipe = yaml.safe_load(file.read_text())
        assert recipe["data"]["init_args"]["num_frames"] == 4
        assert recipe["model"]["init_args"]["lora"]["rank"] == 2
        assert recipe["trainer"]["gradient_clip_val"] == 1.0
    events = EventAccumulator(str(folder))
    events.Reload()
    assert {"train/loss", "throughput/tokens_per_second", "throughput/data_wait"} <= set(events.Tags()["scalars"])
