"""GQA (Hudson and Manning 2019, arXiv:1902.09506): 12 578 balanced questions of testdev with one-word answers.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import ACCURACY
from ppl.evaluation.image_files import image, read_json
from ppl.evaluation.instructions import SHORT_ANSWER
from ppl.evaluation.items import Item, Shown
from ppl.evaluation.protocol import Mark, Protocol
from ppl.evaluation.rows import Row

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class GQA(Benchmark):
    """GQA's testdev, balanced.

    Args:
        root: Folder with ``testdev_balanced_questions.json`` and ``images/``, as its archives unpack.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """Its name."""
        return "gqa-testdev-balanced"

    def items(self) -> list[Item]:
        """Read the questions."""
        root = Path(self.root)
        rows = read_json(root / "testdev_balanced_questions.json", "GQA's questions")
        return [_item(number, row, root) for number, row in rows.items()]


def _item(number: str, row: Mapping[str, Any], root: Path) -> Item:
    types = row.get("types", {})
    return Item(
        id=number,
        media=image(root / "images" / f"{row['imageId']}.jpg"),
        question=row["question"],
        answer=row["answer"],
        cluster=row["imageId"],
        groups={name: types[name] for name in ("structural", "semantic") if types.get(name)},
    )


class _Asked(Protocol):
    metrics = ACCURACY
    max_new_tokens = 16

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question and instruction."""
        return f"{item.question}\n{SHORT_ANSWER}"


class Lmms(_Asked):
    """As lmms-eval asks and marks it: the same letters, whatever their case and the punctuation.

    Args:
        keep_blanks: Let blanks around the answer make it wrong, as it does, whose models give none; otherwise they go.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/gqa, gqa; api/metrics.py, exact_match_hf_evaluate"

    def __init__(self, keep_blanks: bool = False) -> None:
        self.keep_blanks = keep_blanks

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """1 for the reference."""
        text = rows[0].text if self.keep_blanks else rows[0].text.strip()
        return _mark(_bare(text), _bare(rows[0].answer or ""))


class Llava(_Asked):
    """As LLaVA's scripts ask it and GQA's authors mark it: the same text, in lower case and without its full stops."""

    name = "llava"
    version = "1"
    source = "haotian-liu/LLaVA c121f04: scripts/convert_gqa_for_eval.py; GQA's eval.py"
    max_new_tokens = 128

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """1 for the reference."""
        return _mark(rows[0].text.strip().rstrip(".").lower(), rows[0].answer or "")


def _bare(text: str) -> str:
    return text.lower().translate(_WITHOUT_PUNCTUATION)


def _mark(said: str, meant: str) -> Mark:
    return Mark({"accuracy": float(said == meant)}, said or None)
