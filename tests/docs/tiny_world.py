"""A folder in which the documentation's commands run: what they name is there, tiny, and of the very classes.

The words of a command stay as they are, but for those that make it small: a large backbone or aligner becomes the tiny
one of its class, there are two steps, and the overlays that `tests.docs.fates` lists are left out.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import open_clip
import torch
import yaml

from ppl.datamodules.synthetic.benchmark_files import write_benchmark
from ppl.datamodules.synthetic.world import random_scene, render
from ppl.datamodules.synthetic.writer import write_video
from ppl.evaluation.benchmarks import open_ended
from ppl.evaluation.benchmarks.open_ended import OpenEnded
from ppl.evaluation.benchmarks.videomme import Paper, VideoMME
from ppl.exporting.export import export
from tests.datamodules.hound import write_hound
from tests.docs.fates import check_words, is_left_out
from tests.evaluation.made_up import make_videomme
from tests.evaluation.made_up_rows import answer, write_json
from tests.evaluation.made_up_runs import write_rows
from tests.exporting.tiny_runs import base, fit
from tests.modules.tiny import CLIP_FOLDER, ROOT
from tests.recipes.discovery import QUIET, run, small, tiny_part, write_conversations

DEBUG = "recipes/overlays/debug.yaml"
TAKES_RECIPES = ("fit", "validate", "test", "predict", "cache", "data")
TWO_STEPS = (
    "--trainer.max_steps=2",
    "--trainer.accumulate_grad_batches=1",
    "--trainer.devices=1",
    "--trainer.num_nodes=1",
)
PARTS = re.compile(r"recipes/parts/(backbones|aligners)/(\w+)\.yaml")
ALONE = ("--trainer.accelerator=cpu", "--data.num_workers=0")
SPLITS = ("train", "val", "test")
SMALL = ("--data.num_questions", "--data.num_videos", "--data.num_workers")
"""Words of `tests.recipes.discovery.small` that are not to be overruled."""


def make(folder):
    """Write what commands name: recipes, annotation files, media, and the recipe of a run."""
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    file = write_conversations(folder / "videos")
    for name in ("train", "val", "test", "questions"):
        shutil.copy(file, folder / f"{name}.jsonl")
    items = [json.loads(line) for line in file.read_text().splitlines()]
    (folder / "train.json").write_text(json.dumps(items))
    write_video(folder / "clip.mp4", render(random_scene(np.random.default_rng(0))))
    shutil.copy(folder / "clip.mp4", folder / "other.mp4")
    (folder / "runs/demo/videos").mkdir(parents=True)
    shutil.copy(folder / "clip.mp4", folder / "runs/demo/videos/00000.mp4")
    shutil.copy(folder / "videos/red.png", folder / "picture.png")
    write_hound(folder)
    make_videomme(folder / "benchmarks/videomme")
    (folder / "videomme").symlink_to("benchmarks/videomme")
    (folder / "benchmarks/results/leaderboard").mkdir(parents=True)
    write_benchmark(folder / "runs/embedded_world", num_videos=1)
    for name in ("exported", "llava-video-7b"):
        (folder / name).mkdir()
        part = ROOT / "recipes/parts/backbones/tiny_llava_onevision.yaml"
        shutil.copy(part, folder / name / "backbone.yaml")
    config = check_words(["fit", "-c", "recipes/experiments/tiny_sft.yaml"])
    (folder / "runs/tiny_sft").mkdir()
    (folder / "runs/tiny_sft/config.yaml").write_text(config)  # as a run leaves it; its own replaces it
    return folder


def finish_runs(folder):
    """Train the checkpoints that commands name, two steps each."""
    shutil.rmtree(folder / "exported")  # pages write their own
    for name in ("tiny_align", "tiny_sft", "sft_llava_next"):
        run(*small_words(["fit", "-c", f"recipes/experiments/{name}.yaml"], folder))
    for name in ("demo/weighted", "tiny_long_answers"):
        shutil.copytree(folder / "runs/tiny_sft", folder / "runs" / name)
    shutil.copytree(CLIP_FOLDER, folder / "clip")
    config = json.loads((CLIP_FOLDER / "open_clip_config.json").read_text())
    torch.save(open_clip.CLIP(**config["model_cfg"]).state_dict(), folder / "clip/open_clip_pytorch_model.bin")


def two_adapters(folder):
    """Export what LoRA trained twice upon one base."""
    source = base(folder)
    for name in ("red", "blue"):
        export(fit(source, folder / f"runs/{name}", f"--seed_everything={len(name)}")[1], folder / name)


def answers_to_benchmarks(folder):
    """Write what models have answered to questions, without a model."""
    asked = VideoMME(str(folder / "benchmarks/videomme"))
    for name in ("average", "weighted"):
        rows = answer(asked, Paper(), ["A", "B", "C", "D", name, ""])
        write_rows(folder / f"runs/eval/{name}/rows-0.jsonl", rows)
    questions = [{"video_name": "a.avi", "question": "what is it?", "answer": "cat", "question_id": 1}]
    write_json(folder / "benchmarks/msvdqa/test_qa.json", questions)
    asked = OpenEnded(str(folder / "benchmarks/msvdqa"), "msvdqa", questions="test_qa.json", answers=None)
    write_rows(folder / "runs/eval/msvdqa/rows-0.jsonl", answer(asked, open_ended.Paper(), ["a cat"]))


def no_checkout(folder):
    """Leave nothing of a checkout's."""
    shutil.rmtree(folder / "recipes")


PREPARED = {
    "docs/evaluate.md": answers_to_benchmarks,
    "docs/lora.md": two_adapters,
    "docs/release.md": no_checkout,
}
"""What a page needs beside this, or has to do without."""


def small_words(words, folder):
    """The words of a command that takes two steps on tiny models."""
    if words[0] == "redundancy":
        return [*words, "--architecture=local-dir:clip", "--threshold=-1"]
    if words[0] not in TAKES_RECIPES or not any(word in ("-c", "--config") for word in words):
        return words
    head = words[: 2 if words[0] == "data" else 1]
    files, options = _split(words[len(head) :])
    experiments = [file for file in files if "/experiments/" in file]
    if not experiments:  # a benchmark, or a run's own config, which is small already
        return [*head, *_configs(files), *options, *(ALONE if words[0] != "data" else ())]
    own = [word for word in small(experiments[0], folder / "videos") if "_files=" not in word]
    kind = yaml.safe_load((ROOT / experiments[0]).read_text())["data"]["class_path"].rpartition(".")[2]
    if kind == "InstructionDataModule":
        own += [f"--data.{split}_files=[{split}.jsonl]" for split in SPLITS] + ["--data.media_root=videos"]
    if kind == "PreferenceDataModule":
        own += [f"--data.{split}_files=[sft_dpo_17k.jsonl]" for split in SPLITS] + ["--data.media_root=all_frames"]
    if kind == "ImageTextDataModule":  # small() has it read made-up pairs
        options = [word for word in options if "_shards=" not in word]
    last = [word for word in own if word.startswith(SMALL)]
    return [*head, *_configs([*files, DEBUG]), *own, *map(_tiny, options), *last, *TWO_STEPS, *QUIET]


def _split(words):
    """Files after ``-c``, and the other words."""
    files, rest, words = [], [], list(words)
    while words:
        word = words.pop(0)
        if word in ("-c", "--config"):
            files.append(words.pop(0))
        else:
            rest.append(word)
    return files, rest


def _configs(files):
    return [word for file in files if not is_left_out(file) for word in ("-c", file)]


def _tiny(word):
    """A word with the tiny part in place of a large one of the same class."""
    for folder, name in PARTS.findall(word):
        part = yaml.safe_load((ROOT / f"recipes/parts/{folder}/{name}.yaml").read_text())
        word = word.replace(f"recipes/parts/{folder}/{name}.yaml", tiny_part(folder, part["class_path"]))
    return word


def copied(world, folder, programs):
    """A page's own copy, in which `.venv` has the stand-ins of programs, too."""
    copy = Path(shutil.copytree(world, folder / "world", symlinks=True))
    (copy / ".venv").mkdir(exist_ok=True)
    (copy / ".venv/bin").unlink(missing_ok=True)
    (copy / ".venv/bin").symlink_to(programs)
    return copy
