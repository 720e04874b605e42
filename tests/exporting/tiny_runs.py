"""Runs of LoRA upon bases in the hub's format, of seconds each."""

import pytest
import yaml

from ppl.training_cli import run_training_cli
from tests.modules.tiny import ROOT
from tests.parity.native import BACKBONES, TEMPLATES, saved
from tests.recipes.discovery import QUIET, SMALL_QUESTIONS

SMALL_LORA = ("--model.lora={rank: 4, alpha: 8.0, dropout: 0.0}", "--model.learning_rates.lora=0.01")


def base(folder, name="tiny_llava_next"):
    """A backbone's weights, config and tokenizer in a folder."""
    return saved(BACKBONES[name], name, folder / f"base_{name}")


def fit(source, folder, *more, name="tiny_llava_next", lora=SMALL_LORA, steps=2, every=2):
    """Train a few steps upon a folder; returns the module and its last checkpoint."""
    saver = {"dirpath": str(folder / "checkpoints"), "every_n_train_steps": every, "save_top_k": -1}
    saver |= {"filename": "{step}", "enable_version_counter": False}
    callback = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": saver}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "overlay.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    backbone = [] if source is None else [f"--model.backbone.source={source}", "--model.backbone.initialize=pretrained"]
    words = [
        *("fit", "-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml"),
        *("-c", str(folder / "overlay.yaml"), "--model.alignment=null", "--model.learning_rates.newline=0"),
        *(f"--model.backbone=recipes/parts/backbones/{name}.yaml", *backbone, *lora),
        f"--data.template={TEMPLATES.get(name, 'vicuna_v1')}",
        *(*SMALL_QUESTIONS, *QUIET, "--trainer.logger=false", "--trainer.limit_val_batches=0"),
        *(f"--trainer.max_steps={steps}", "--trainer.max_epochs=-1", f"--trainer.default_root_dir={folder}", *more),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the recipes' folders are relative to it
        cli = run_training_cli(words)
    return cli.model.eval(), folder / f"checkpoints/step={steps}.ckpt"
