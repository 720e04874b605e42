"""VQAv2 (Goyal et al. 2017, arXiv:1612.00837): open questions with the answers of ten people each.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks. Papers quote ``test-dev``,
which the challenge's server marks.
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
from ppl.evaluation.vqa_accuracy import textvqa_normal, vqa_accuracy, vqa_normal

_IMAGES = {"val": "val2014", "test-dev": "test2015", "test": "test2015"}
_FILES = {"val": "val2014", "test-dev": "test-dev2015", "test": "test2015"}


class VQAv2(Benchmark):
    """VQAv2.

    Args:
        root: Folder with ``v2_OpenEnded_mscoco_{val2014,test-dev2015,test2015}_questions.json``,
            ``v2_mscoco_val2014_annotations.json``, and COCO's ``val2014/`` or ``test2015/``.
        split: ``val``, ``test-dev`` or ``test``; of the last two the challenge keeps the answers.
    """

    def __init__(self, root: str, split: Literal["val", "test-dev", "test"] = "val") -> None:
        self.root = root
        self.split = split

    @property
    def name(self) -> str:
        """Its name."""
        return f"vqav2-{self.split}"

    def items(self) -> list[Item]:
        """Read the questions, and the answers of the val split."""
        root, folder = Path(self.root), _IMAGES[self.split]
        file = root / f"v2_OpenEnded_mscoco_{_FILES[self.split]}_questions.json"
        questions = read_json(file, "VQAv2's questions")["questions"]
        people: dict[int, Mapping[str, Any]] = {}
        if self.split == "val":
            answers = read_json(root / "v2_mscoco_val2014_annotations.json", "VQAv2's answers")["annotations"]
            people = {row["question_id"]: row for row in answers}
        return [_item(row, people.get(row["question_id"], {}), root / folder) for row in questions]


def _item(row: Mapping[str, Any], people: Mapping[str, Any], folder: Path) -> Item:
    groups = {"question_type": people.get("question_type"), "answer_type": people.get("answer_type")}
    return Item(
        id=str(row["question_id"]),
        media=image(folder / f"COCO_{folder.name}_{row['image_id']:012}.jpg"),
        question=row["question"],
        answer=people.get("multiple_choice_answer"),
        answers=tuple(answer["answer"] for answer in people.get("answers", [])),
        cluster=str(row["image_id"]),
        groups={name: value for name, value in groups.items() if value},
    )


class Lmms(Protocol):
    """As lmms-eval asks and marks it; LLaVA's script asks the same.

    Args:
        split_words: Also remove commas and question marks first and split ``'s`` off, as TextVQA's and VizWiz's
            evaluation does; lmms-eval does not for VQAv2.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/vqav2, vqav2_val and vqav2_test"
    metrics = ACCURACY
    max_new_tokens = 16

    def __init__(self, split_words: bool = False) -> None:
        self.split_words = split_words

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question and instruction."""
        return f"{item.question}\n{SHORT_ANSWER}"

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """VQA accuracy; nothing of a test split."""
        row, normal = rows[0], textvqa_normal if self.split_words else vqa_normal
        worth = vqa_accuracy(row.text, row.answers, normal) if row.answers else None
        return Mark({"accuracy": worth}, normal(row.text) or None)

    def submission(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """Of a test split: what EvalAI takes. Its server refuses fewer answers than questions: answer all of ``test``.

        lmms-eval writes answers as they are, LLaVA's scripts in the form in which they are compared, as here.
        """
        if any(row.answers for row in rows):
            return {}
        answers = [{"question_id": int(row.id), "answer": textvqa_normal(row.text)} for row in rows]
        return {f"{rows[0].benchmark}.json": json.dumps(answers)}
