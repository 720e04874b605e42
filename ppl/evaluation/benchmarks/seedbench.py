"""SEED-Bench (Li et al. 2023, arXiv:2307.16125): its 14 232 questions with four options about images.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import ACCURACY, mark_choice
from ppl.evaluation.image_files import image, read_json
from ppl.evaluation.instructions import LETTER_ANSWER
from ppl.evaluation.items import Item, Shown
from ppl.evaluation.letters_lmms import ranked_letter
from ppl.evaluation.option_matching import lettered, with_options
from ppl.evaluation.protocol import Mark, Protocol
from ppl.evaluation.rows import Row

_OPTIONS = ("choice_a", "choice_b", "choice_c", "choice_d")


class SeedBenchImage(Benchmark):
    """SEED-Bench's questions about images, SEED-IMG.

    Args:
        root: Folder with ``SEED-Bench.json`` and ``SEED-Bench-image/``, as its authors distribute them.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """Its name."""
        return "seedbench-image"

    def items(self) -> list[Item]:
        """Read the questions; those about videos are passed over."""
        root = Path(self.root)
        table = read_json(root / "SEED-Bench.json", "SEED-Bench's questions")
        kinds = {number: kind for kind, number in table["question_type"].items()}
        return [_item(row, kinds, root) for row in table["questions"] if row["data_type"] == "image"]


def _item(row: Mapping[str, Any], kinds: Mapping[int, str], root: Path) -> Item:
    return Item(
        id=str(row["question_id"]),
        media=image(root / "SEED-Bench-image" / row["data_id"]),
        question=row["question"],
        options=tuple(str(row[name]) for name in _OPTIONS),
        answer=row["answer"],
        cluster=row["data_id"],
        groups={"question_type": kinds[row["question_type_id"]]},
    )


class _Asked(Protocol):
    metrics = ACCURACY

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question, options and instruction."""
        return f"{item.question}\n{lettered(item.options)}\n{LETTER_ANSWER}"

    def guide(self, item: Item) -> str:
        """The question with its options."""
        return with_options(item.question, item.options)


class Lmms(_Asked):
    """As lmms-eval asks and marks it; its metric ``seed_image``, as a percentage.

    Args:
        first_character: Take the first character for the letter, as it does ("The answer is B" is T, and wrong);
            otherwise the letter in the most telling place.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/seedbench, seedbench"
    max_new_tokens = 1024
    """Its task gives none; this is what its LLaVA models take then."""

    def __init__(self, first_character: bool = True) -> None:
        self.first_character = first_character

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """By the first character."""
        text = rows[0].text
        first = text.strip()[:1].upper()
        known = first if first in ("A", "B", "C", "D") else None
        return mark_choice(rows[0], known if self.first_character else ranked_letter(text, "ABCD"))


class Llava(_Asked):
    """As LLaVA's scripts ask and mark it: nothing but the letter is right."""

    name = "llava"
    version = "1"
    source = "haotian-liu/LLaVA c121f04: docs/Evaluation.md, scripts/convert_seed_for_submission.py"
    max_new_tokens = 128

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """By the whole answer, which their scripts strip as they write it."""
        text = rows[0].text.strip()
        return mark_choice(rows[0], text if text in ("A", "B", "C", "D") else None)
