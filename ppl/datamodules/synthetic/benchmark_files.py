"""Write the embedded world as a benchmark: videos as real files, and questions of three forms about each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ppl.datamodules.synthetic.questions import Question, ask
from ppl.datamodules.synthetic.world import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, Scene, random_scene, render
from ppl.datamodules.synthetic.writer import write_video
from ppl.evaluation.benchmarks.embedded_world import QUESTIONS

SEED = 4_000_037
"""Of videos that are in no other split."""
_FORMS = {
    "multiple_choice": ("colour", "shape", "motion", "when", "order"),
    "yes_no": ("exist", "exist"),
    "open_ended": ("colour", "shape", "motion", "background"),
}
_ANSWERS: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "motion": tuple(DIRECTIONS),
    "when": ("early", "late"),
    "background": tuple(BACKGROUNDS),
}
_NUM_OPTIONS = 4


def write_benchmark(folder: str | Path, num_videos: int = 200, seed: int = SEED) -> Path:
    """Write the files that `ppl.evaluation.benchmarks.embedded_world.EmbeddedWorld` reads.

    Args:
        folder: Where to; made if need be.
        num_videos: Each has 8 frames in 2 seconds, and 11 questions.
        seed: The same seed, the same questions.

    Returns:
        The file of the questions.
    """
    folder = Path(folder)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    entries: list[dict[str, Any]] = []
    for number in range(num_videos):
        scene, video = random_scene(random), f"videos/{number:05d}.mp4"
        write_video(folder / video, render(scene))
        entries += [
            _entry(f"{number:05d}-{form}-{i}", video, form, scene, ask(scene, {kind: 1.0}, random), random)
            for form, kinds in _FORMS.items()
            for i, kind in enumerate(kinds)
        ]
    file = folder / QUESTIONS
    file.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return file


def _entry(
    name: str, video: str, form: str, scene: Scene, question: Question, random: np.random.Generator
) -> dict[str, Any]:
    options = _options(scene, question, random) if form == "multiple_choice" else []
    return {
        "id": name,
        "video": video,
        "form": form,
        "type": question.type,
        "question": question.text,
        "options": options,
        "answer": question.answer,
    }


def _options(scene: Scene, question: Question, random: np.random.Generator) -> list[str]:
    """The answer among others of its kind, in random order; of an order, the two objects that are asked about."""
    if question.type == "order":
        others = [scene.objects[i].colour for i in question.asked if scene.objects[i].colour != question.answer]
    else:
        wrong = [answer for answer in _ANSWERS[question.type] if answer != question.answer]
        others = [str(each) for each in random.permutation(wrong)[: _NUM_OPTIONS - 1]]
    return [str(each) for each in random.permutation([question.answer, *others])]
