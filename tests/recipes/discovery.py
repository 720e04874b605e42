"""The recipes of the checkout, found by themselves, and the values that make any of them small."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ppl.datamodules.synthetic.writer import write_video
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
SMALL_PAIRS = [
    "--data=ppl.datamodules.synthetic.contrastive.SyntheticContrastiveDataModule",
    *("--data.num_batches=2", "--data.num_held_out_batches=1", "--data.batch_size=8"),
    "--trainer.enable_checkpointing=true",
]
"""The tiny recipes' data, so small that two steps take seconds on a CPU."""


def found(folder):
    """Every YAML below a folder of recipes/, relative to the root."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (RECIPES / folder).rglob("*.yaml"))


def recipe(path):
    """A recipe's YAML with the parts it names read in."""
    content = yaml.safe_load((ROOT / path).read_text())
    content["model"]["init_args"] = {
        name: yaml.safe_load(((ROOT / path).parent / value).read_text()) if _is_part(value) else value
        for name, value in content["model"]["init_args"].items()
    }
    return content


def _is_part(value):
    return isinstance(value, str) and value.endswith(".yaml")


def tiny_part(folder, class_path):
    """The tiny part of a class, found by its class."""
    names = [path for path in found(f"parts/{folder}") if Path(path).stem.startswith("tiny_")]
    (path,) = [path for path in names if yaml.safe_load((ROOT / path).read_text())["class_path"] == class_path]
    return path


def small(path, folder):
    """Words with which two steps of an experiment take seconds on a CPU: a tiny model of the very classes it names.

    Frames and template stay the recipe's; the data become a video, an image, several images and a text in ``folder``.
    """
    model, data = recipe(path)["model"], recipe(path)["data"]
    args = model["init_args"]
    words = [f"--model.backbone={tiny_part('backbones', args['backbone']['class_path'])}"]
    words += [f"--model.aligner={tiny_part('aligners', args['aligner']['class_path'])}"]
    if model["class_path"] == "ppl.modules.align.AlignModule":
        return [*words, *SMALL_PAIRS]
    words += ["--init_from=null"] if "init_from" in recipe(path) else []
    if data["class_path"].startswith("ppl.datamodules.synthetic."):
        return [*words, "--model.alignment=null", *SMALL_QUESTIONS]
    are_pairs = data["class_path"] == "ppl.datamodules.preference.PreferenceDataModule"
    file = write_conversations(Path(folder), are_pairs=are_pairs)
    files = [f"--data.{split}_files=[{file}]" for split in ("train", "val", "test")]
    windows = ["--model.pooler.kernel_size=[2,2,2]", "--model.pooler.image_kernel_size=[1,2,2]"]  # of few patches
    words += ["--model.backbone.dtype=float32", "--model.alignment=null", *windows]
    return [*words, *files, "--data.batch_size=2", "--data.num_workers=0"]


def write_conversations(folder, *, are_pairs=False):
    """Write four conversations, or preference pairs, with media of each kind, two steps of two; returns their file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_video(folder / "clip.mp4", np.random.default_rng(0).integers(256, size=(12, 3, 12, 16), dtype=np.uint8))
    for colour in ("red", "blue"):
        Image.new("RGB", (60, 40), colour).save(folder / f"{colour}.png")
    media = [[("video", "clip.mp4")], [("image", "red.png")], [("image", "red.png"), ("image", "blue.png")], []]
    lines = []
    for number, row in enumerate(media):
        content = [*({"type": kind, kind: name} for kind, name in row), {"type": "text", "text": "what colour is it ?"}]
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "red"}]
        pair = {"prompt": "what colour is it ?", "chosen": "red", "rejected": "it is blue"}
        pair |= {kind: [name for one, name in row if one == kind] for kind in {kind for kind, _ in row}}
        lines.append(json.dumps({"id": str(number), **(pair if are_pairs else {"messages": messages})}))
    path = folder / "conversations.jsonl"
    path.write_text("\n".join(lines))
    return path


def run(*words):
    """Run one subcommand in this process; where it parses wrongly, fail instead of leaving pytest."""
    try:
        return run_training_cli(list(words))
    except SystemExit as error:
        msg = f"`ppl {' '.join(words)}` exited with {error.code}"
        raise AssertionError(msg) from error


def parsed(capsys, *words):
    """Parse with the real CLI and return what it would run."""
    with pytest.raises(SystemExit) as stopped:
        run_training_cli(["fit", *words, "--print_config"])
    output = capsys.readouterr()
    assert stopped.value.code == 0, output.err
    return yaml.safe_load(output.out)
