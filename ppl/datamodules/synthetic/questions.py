"""Questions about synthetic scenes: seven types, each with one right one-word answer.

Every question about an object names it by what it does not ask for, so answering needs retrieval and then reading:
the other objects of the scene are distractors with all different shapes and all different colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ppl.datamodules.synthetic.world import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, Scene

_PREAMBLE = (
    "this is a video .",
    "there is a scene in this video .",
    "in this video there is a scene with an object .",
    "show me the picture and find the object .",
    "find the scene where the object does move .",
    "show me where the object is in the image .",
    "there is an object in this picture , find the object and show me the scene .",
    "show me when the object does appear in the video .",
    "an object is in the image , and there is the picture .",
    "find an image or a picture with this object and show me where the object is .",
)
"""Sentences of the tiny vocabulary that fit every scene: no shape, colour, direction, time or background is named."""

QUESTION_TYPES = ("colour", "shape", "motion", "when", "order", "exist", "background")


class Question(NamedTuple):
    """A question, its answer, and which objects of the scene it asks about (none for the background)."""

    type: str
    text: str
    answer: str
    asked: tuple[int, ...]


def _colour(scene: Scene, rng: np.random.Generator) -> Question:
    i = int(rng.integers(len(scene.objects)))
    return Question("colour", f"what colour is the {scene.objects[i].shape} ?", scene.objects[i].colour, (i,))


def _shape(scene: Scene, rng: np.random.Generator) -> Question:
    i = int(rng.integers(len(scene.objects)))
    return Question("shape", f"what shape is the {scene.objects[i].colour} object ?", scene.objects[i].shape, (i,))


def _motion(scene: Scene, rng: np.random.Generator) -> Question:
    i = int(rng.integers(len(scene.objects)))
    return Question("motion", f"which way does the {scene.objects[i].name} move ?", scene.objects[i].direction, (i,))


def _when(scene: Scene, rng: np.random.Generator) -> Question:
    i = int(rng.integers(len(scene.objects)))
    answer = "early" if scene.objects[i].middle < scene.num_frames / 2 else "late"
    return Question("when", f"when does the {scene.objects[i].name} appear ?", answer, (i,))


def _order(scene: Scene, rng: np.random.Generator) -> Question:
    starts = np.array([o.first_frame for o in scene.objects])
    pairs = [(i, j) for i in range(len(starts)) for j in range(len(starts)) if starts[i] < starts[j]]
    if not pairs:
        return _colour(scene, rng)
    i, j = pairs[rng.integers(len(pairs))]
    left, right = (i, j) if rng.random() < 0.5 else (j, i)
    text = f"which appears first , the {scene.objects[left].name} or the {scene.objects[right].name} ?"
    return Question("order", text, scene.objects[i].colour, (left, right))


def _exist(scene: Scene, rng: np.random.Generator) -> Question:
    i = int(rng.integers(len(scene.objects)))
    thing = scene.objects[i]
    if rng.random() < 0.5:
        return Question("exist", f"is there a {thing.name} ?", "yes", (i,))
    others = [o.shape for o in scene.objects if o.shape != thing.shape]
    return Question("exist", f"is there a {thing.colour} {others[rng.integers(len(others))]} ?", "no", ())


def _background(scene: Scene, rng: np.random.Generator) -> Question:
    del rng
    return Question("background", "what colour is the background ?", scene.background, ())


_ASK: dict[str, Callable[[Scene, np.random.Generator], Question]] = {
    "colour": _colour,
    "shape": _shape,
    "motion": _motion,
    "when": _when,
    "order": _order,
    "exist": _exist,
    "background": _background,
}


def ask(scene: Scene, mix: dict[str, float], rng: np.random.Generator) -> Question:
    """Draw a question type from ``mix`` (type -> weight) and ask it about ``scene``."""
    kinds: Sequence[str] = list(mix)
    weights = np.array([mix[k] for k in kinds], dtype=float)
    return _ASK[kinds[rng.choice(len(kinds), p=weights / weights.sum())]](scene, rng)


def preamble(num_words: int, rng: np.random.Generator) -> str:
    """Draw text that tells nothing about a scene, to stand before a question as a dialogue's earlier turns would.

    Args:
        num_words: Its exact length in words, punctuation marks included; each is one token of CLIP and of the tiny
            backbone. The first sentence may lack its beginning; the last is whole.
        rng: Draws the sentences.

    Raises:
        ValueError: If the number is negative.
    """
    if num_words < 0:
        raise ValueError(f"got a preamble of {num_words} words, expected 0 or more; 0 leaves it out")
    words: list[str] = []
    while len(words) < num_words:
        words += _PREAMBLE[rng.integers(len(_PREAMBLE))].split()
    return " ".join(words[len(words) - num_words :])


def vocabulary() -> list[str]:
    """Every word of every question, answer and caption, sorted: the word-level tokenizer of the tiny backbone."""
    grammar = (
        "what colour shape is the object ? which way does move when appear early late appears first , or "
        "there a an yes no background find show me this scene with and . in video image picture where"
    )
    return sorted({*grammar.split(), *SHAPES, *COLOURS, *BACKGROUNDS, *DIRECTIONS})
