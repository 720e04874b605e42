"""The recipes of the checkout, found by themselves, and the values that make any of them small."""

import yaml

from ppl.training_cli import run_training_cli
from tests.modules.tiny import ROOT

RECIPES = ROOT / "recipes"
PART_ARGUMENTS = {
    "backbones": "model.backbone",
    "aligners": "model.aligner",
    "poolers": "model.pooler",
    "data": "data",
}
"""Folder of recipes/parts -> the argument its files are given to."""

QUIET = ["--trainer.enable_progress_bar=false"]
SMALL_QUESTIONS = [
    *("--data.num_videos=4", "--data.num_questions=8", "--data.num_held_out_videos=2"),
    *("--data.num_held_out_questions=4", "--data.num_frames=4", "--data.batch_size=4"),
    "--data.num_workers=0",
]
SMALL = {
    "ppl.modules.sft.SFTModule": [
        "--model.backbone=recipes/parts/backbones/tiny_llava_next.yaml",
        "--model.aligner=recipes/parts/aligners/tiny_clip.yaml",
        "--model.alignment=null",
        "--data=recipes/parts/data/synthetic.yaml",
        *SMALL_QUESTIONS,
    ],
    "ppl.modules.align.AlignModule": [
        "--model.backbone=recipes/parts/backbones/tiny_llava_next.yaml",
        "--model.aligner=recipes/parts/aligners/tiny_clip.yaml",
        "--data=ppl.datamodules.synthetic.contrastive.SyntheticContrastiveDataModule",
        *("--data.num_batches=2", "--data.num_held_out_batches=1", "--data.batch_size=8"),
        "--trainer.enable_checkpointing=true",
    ],
}
"""Model class -> overrides with which two steps take seconds on a CPU, whatever the recipe trains."""


def found(folder):
    """Every YAML below a folder of recipes/, relative to the root."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (RECIPES / folder).rglob("*.yaml"))


def model_class(experiment):
    return yaml.safe_load((ROOT / experiment).read_text())["model"]["class_path"]


def run(*words):
    """Run one subcommand in this process; where it parses wrongly, fail instead of leaving pytest."""
    try:
        return run_training_cli(list(words))
    except SystemExit as error:
        msg = f"`ppl {' '.join(words)}` exited with {error.code}"
        raise AssertionError(msg) from error
