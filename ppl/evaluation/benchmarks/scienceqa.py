"""ScienceQA (Lu et al. 2022, arXiv:2209.09513): the 2017 test questions that have an image, ScienceQA-IMG.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import ACCURACY, mark_choice
from ppl.evaluation.image_files import image, read_json
from ppl.evaluation.instructions import LETTER_ANSWER
from ppl.evaluation.items import Item, Shown, letter
from ppl.evaluation.letters_lmms import ranked_letter
from ppl.evaluation.option_matching import lettered, with_options
from ppl.evaluation.protocol import Mark, Protocol
from ppl.evaluation.rows import Row


class ScienceQAImage(Benchmark):
    """ScienceQA's questions with an image.

    Args:
        root: Folder with ``problems.json``, ``pid_splits.json`` and ``images/{split}/{number}/image.png``, as
            ``data/scienceqa`` of its repository has them.
        split: ``test``, or ``val``.
    """

    def __init__(self, root: str, split: Literal["test", "val"] = "test") -> None:
        self.root = root
        self.split = split

    @property
    def name(self) -> str:
        """Its name."""
        return f"scienceqa-image-{self.split}"

    def items(self) -> list[Item]:
        """Read the questions; those without an image are passed over."""
        root = Path(self.root)
        problems = read_json(root / "problems.json", "ScienceQA's questions")
        numbers = read_json(root / "pid_splits.json", "the numbers of ScienceQA's splits")[self.split]
        folder = root / "images" / self.split
        return [_item(number, problems[number], folder) for number in numbers if problems[number].get("image")]


def _item(number: str, row: Mapping[str, Any], folder: Path) -> Item:
    return Item(
        id=number,
        media=image(folder / number / row["image"]),
        question=row["question"],
        options=tuple(row["choices"]),
        answer=letter(row["answer"]),
        groups={name: row[name] for name in ("subject", "grade") if row.get(name)},
        facts={"hint": row.get("hint") or ""},
    )


class Lmms(Protocol):
    """As lmms-eval asks and marks it.

    Args:
        reading: ``lmms``: nothing but the letter, in either case, or a capital and a full stop at the beginning, as it
            reads ("(B)" and "The answer is B" are wrong). ``llava``: also "The answer is B", as LLaVA's script reads.
            ``ranked``: the letter in the most telling place.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/scienceqa, scienceqa_img; haotian-liu/LLaVA: eval_science_qa.py"
    metrics = ACCURACY
    max_new_tokens = 16

    def __init__(self, reading: Literal["lmms", "llava", "ranked"] = "lmms") -> None:
        self.reading = reading

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Context where there is one, question, options and instruction."""
        context = f"Context: {item.facts['hint']}\n" if item.facts["hint"] else ""
        return f"{context}{item.question}\n{lettered(item.options)}\n{LETTER_ANSWER}"

    def guide(self, item: Item) -> str:
        """The question with its options."""
        return with_options(item.question, item.options)

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """By the letter."""
        text = rows[0].text
        letters = [letter(index) for index in range(len(rows[0].options))]
        if self.reading == "lmms":
            found = _bare_letter(text.strip())
        else:
            found = _llava_letter(text) if self.reading == "llava" else ranked_letter(text, letters)
        return mark_choice(rows[0], found if found in letters else None)


def _bare_letter(text: str) -> str | None:
    if len(text) == 1:
        return text.upper()
    return text[0] if text[1:2] == "." and text[0].isupper() else None


def _llava_letter(text: str) -> str | None:
    text = text.replace("\n", ". ")
    if len(text.strip()) == 1:
        return text.strip()
    found = re.match(r"([A-E])\. ", text) or re.search(r"The answer is ([A-E])\.", text)
    found = found or re.search(r"The answer is ([A-E])", text)
    return None if found is None else found[1]
