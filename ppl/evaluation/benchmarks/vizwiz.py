"""VizWiz-VQA (Gurari et al. 2018, arXiv:1802.08218): questions that blind people asked about their own photographs.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks. Papers quote ``test``, which
the challenge's server marks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import ACCURACY
from ppl.evaluation.image_files import image, read_json
from ppl.evaluation.instructions import SHORT_ANSWER
from ppl.evaluation.items import Item, Shown
from ppl.evaluation.protocol import Mark, Protocol
from ppl.evaluation.rows import Row
from ppl.evaluation.vqa_accuracy import textvqa_normal, vqa_accuracy


class VizWiz(Benchmark):
    """VizWiz-VQA.

    Args:
        root: Folder with ``val.json`` or ``test.json`` and the images in ``val/`` or ``test/``.
        split: ``val``, or ``test``, whose answers the challenge keeps.
    """

    def __init__(self, root: str, split: Literal["val", "test"] = "val") -> None:
        self.root = root
        self.split = split

    @property
    def name(self) -> str:
        """Its name."""
        return f"vizwiz-{self.split}"

    def items(self) -> list[Item]:
        """Read the questions."""
        root = Path(self.root)
        rows = read_json(root / f"{self.split}.json", "VizWiz's questions")
        return [_item(row, root / self.split) for row in rows]


def _item(row: Mapping[str, Any], folder: Path) -> Item:
    return Item(
        id=row["image"],
        media=image(folder / row["image"]),
        question=row["question"],
        answers=tuple(answer["answer"] for answer in row.get("answers", [])),
        groups={"answer_type": row["answer_type"]} if row.get("answer_type") else {},
    )


class Lmms(Protocol):
    """As lmms-eval asks and marks it; LLaVA's script asks the same, but for the letters' case.

    Args:
        capitalized: Write the question with one capital, its first letter, as it does (NASA becomes nasa).
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/vizwiz_vqa, vizwiz_vqa_val and vizwiz_vqa_test"
    metrics = ACCURACY
    max_new_tokens = 1024
    """Its task gives none; this is what its LLaVA models take then."""

    def __init__(self, capitalized: bool = True) -> None:
        self.capitalized = capitalized

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question, what to say where it cannot be answered, and instruction."""
        question = item.question.capitalize() if self.capitalized else item.question
        unanswerable = "When the provided information is insufficient, respond with 'Unanswerable'."
        return f"{question}\n{unanswerable}\n{SHORT_ANSWER}"

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """VQA accuracy; nothing of the test split."""
        row = rows[0]
        worth = vqa_accuracy(row.text, row.answers, textvqa_normal) if row.answers else None
        return Mark({"accuracy": worth}, textvqa_normal(row.text) or None)

    def submission(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """Of the test split: what EvalAI takes."""
        if any(row.answers for row in rows):
            return {}
        answers = [{"image": row.id, "answer": textvqa_normal(row.text)} for row in rows]
        return {f"{rows[0].benchmark}.json": json.dumps(answers)}
