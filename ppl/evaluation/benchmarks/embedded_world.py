"""The embedded world as a benchmark: made-up videos of moving shapes, asked in the three forms that others have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import mark_choice
from ppl.evaluation.image_files import read_json
from ppl.evaluation.items import Item, Medium, Shown, letter
from ppl.evaluation.protocol import Frames, Mark, Protocol
from ppl.evaluation.rows import Row
from ppl.evaluation.text_metrics import exact_match, squad_normal, token_f1

QUESTIONS = "questions.json"
"""Of its folder, beside the videos: what `ppl.datamodules.synthetic.benchmark_files` writes."""


class EmbeddedWorld(Benchmark):
    """Multiple-choice, yes/no and open-ended questions about made-up videos.

    Args:
        root: Folder that ``python -m ppl.datamodules.synthetic FOLDER`` wrote.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """Its name."""
        return "embedded-world"

    def items(self) -> list[Item]:
        """Read the questions."""
        root = Path(self.root)
        what = "the questions that `python -m ppl.datamodules.synthetic` writes"
        return [_item(entry, root) for entry in read_json(root / QUESTIONS, what)]


def _item(entry: Mapping[str, Any], root: Path) -> Item:
    options = tuple(entry["options"])
    answer = entry["answer"]
    return Item(
        id=entry["id"],
        media=(Medium("video", str(root / entry["video"])),),
        question=entry["question"],
        options=options,
        answer=letter(options.index(answer)) if options else answer,
        cluster=entry["video"],
        groups={"form": entry["form"], "type": entry["type"]},
    )


class Official(Protocol):
    """Asks as the tiny model was tuned: its vocabulary has no letters of options, so it answers in words.

    Accuracy counts multiple-choice and yes/no answers, the other metrics open-ended ones; ``yes_ratio`` is the share of
    yes among yes/no answers, of which about half are right.

    Args:
        list_options: Write the options behind a multiple-choice question, as the model was never asked in tuning.
    """

    name = "official"
    version = "1"
    source = "ppl's own embedded world; exact match and token F1 as SQuAD 1.1 (arXiv:1606.05250, section 6.1)"
    metrics: ClassVar = {"accuracy": 100.0, "yes_ratio": 100.0, "exact_match": 100.0, "token_f1": 100.0}
    max_new_tokens = 4

    def __init__(self, list_options: bool = False) -> None:
        self.list_options = list_options

    def frames(self, item: Item) -> Frames:
        """All of them."""
        return Frames(8)

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """The question, with the options behind it if they are to be listed."""
        if not (self.list_options and item.options):
            return item.question
        *others, last = item.options
        return f"{item.question} {' , '.join(others)} or {last} ?"

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """By the form of the question."""
        (row,) = rows
        if row.groups["form"] == "multiple_choice":
            return mark_choice(row, named_option(row.text, row.options))
        if row.groups["form"] == "yes_no":
            said = yes_or_no(row.text)
            return Mark({"accuracy": float(said == row.answer), "yes_ratio": float(said == "yes")}, said)
        answer = row.answer or ""
        values = {"exact_match": exact_match(row.text, answer), "token_f1": token_f1(row.text, answer)}
        return Mark(values, squad_normal(row.text) or None)


def named_option(text: str, options: Sequence[str]) -> str | None:
    """Letter of the only option whose word was said; None for none or several."""
    said = squad_normal(text).split()
    found = [letter(number) for number, option in enumerate(options) if option in said]
    return found[0] if len(found) == 1 else None


def yes_or_no(text: str) -> str | None:
    """The word that an answer begins with, if it is one of these."""
    first = squad_normal(text).partition(" ")[0]
    return first if first in ("yes", "no") else None
