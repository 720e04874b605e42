"""A checkpoint for `benchmarks.serving`: LLaVA-NeXT-Vicuna-7B at a quarter of every width and length, cut in depth.

A sequence of a quarter of the positions in layers of a quarter of the width leaves attention its share of the FLOPs;
two layers of 32 then make a 1024th of the 7B's prefill, and the tower is narrowed to a 1024th of its own. Frames have
12 x 12 patches, so 8 of them become 1152 tokens, or 64 in windows of (2, 3, 3), for the 7B's 4608 and 256. The
projector's hidden layer is as wide as the language model, as in the 7B, but not cut in depth: 16 times its share there,
or 5 % of the FLOPs of an unpooled prompt.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from benchmarks.measuring import ROOT
from benchmarks.scaled import SEVEN_B, TOKENIZER, Shape, aligner_config, backbone_config
from ppl.training_cli import run_training_cli

SHARE = 1024
TINY_DATA = {"num_videos": 4, "num_questions": 8, "num_held_out_videos": 2, "num_held_out_questions": 4}


def quarter() -> Shape:
    """A 1024th of the 7B's FLOPs in tower and prefill."""
    shape = Shape(
        layers=2, width=1024, mlp=2752, heads=8, image=168, tower_layers=2, tower_width=256, tower_mlp=1,
        projector=1024, text_layers=1, text_width=192, text_mlp_ratio=0.5, joint=12,
    )  # fmt: skip
    missing = SEVEN_B.tower_flops(1) / SHARE - shape.tower_flops(1)
    return replace(
        shape, tower_mlp=1 + round(missing / (shape.tower_layers * (shape.patches + 1) * 4 * shape.tower_width))
    )


def write_checkpoint(shape: Shape, folder: Path, frames: int) -> Path:
    """Random weights, with the recipe that `ppl serve` reads: pooled by relevance."""
    source = folder / "source"
    source.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, source)
    tokens = json.loads((TOKENIZER / "config.json").read_text())
    backbone_config(shape, tokens["image_token_index"], tokens["text_config"]).save_pretrained(source)
    (source / "open_clip_config.json").write_text(json.dumps(aligner_config(shape)))
    recipes = ROOT / "recipes"
    words = [
        *("fit", "-c", str(recipes / "experiments/tiny_sft.yaml"), "--trainer.max_steps=0"),
        *(f"--model.backbone.source={source}", "--model.backbone.initialize=random", "--model.alignment=null"),
        f"--model.aligner.architecture=local-dir:{source}",
        *(f"--data.{name}={value}" for name, value in TINY_DATA.items()),
        *(f"--data.num_frames={frames}", "--data.num_workers=0", "--model.cache=null"),
        *("--trainer.logger=false", "--trainer.enable_progress_bar=false", f"--trainer.default_root_dir={folder}"),
    ]
    cli = run_training_cli(words)
    path = folder / "scaled.ckpt"
    cli.trainer.save_checkpoint(path)
    return path
