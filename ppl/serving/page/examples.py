"""Clips of the embedded world to try the page with, and questions that a model of that world was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ppl.datamodules.synthetic.questions import ask
from ppl.datamodules.synthetic.world import random_scene, render
from ppl.datamodules.synthetic.writer import write_video

_SEED = 4_000_037
"""Of no training, validation or test set."""
_KINDS = ("colour", "shape", "motion")
_NUM_CLIPS = 4


@dataclass(frozen=True)
class Example:
    """A clip."""

    path: Path
    picture: Image.Image
    """One of its frames."""
    questions: tuple[str, ...]


def write_examples(folder: Path) -> list[Example]:
    """Write a few clips into a folder, which may exist."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(_SEED)
    examples = []
    for number in range(1, _NUM_CLIPS + 1):
        scene = random_scene(rng)
        frames = render(scene)
        path = folder / f"example-{number}.mp4"
        write_video(path, frames)
        picture = Image.fromarray(frames[len(frames) // 2].transpose(1, 2, 0))
        questions = tuple(ask(scene, {kind: 1.0}, rng).text for kind in _KINDS)
        examples.append(Example(path, picture, questions))
    return examples
