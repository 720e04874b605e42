"""MathVista (Lu et al. 2024, arXiv:2310.02255): 1000 questions of testmini, whose answers a judge reads out.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import ACCURACY
from ppl.evaluation.image_files import parquet_files
from ppl.evaluation.items import Cell, Item, Medium, Shown, letter
from ppl.evaluation.judge import Request
from ppl.evaluation.mathvista_texts import Hints, extraction_prompt, hint
from ppl.evaluation.option_matching import closest_option, lettered, with_options
from ppl.evaluation.protocol import Mark, Protocol
from ppl.evaluation.rows import Row
from ppl.evaluation.tables import read_parquet

_FACTS = ("unit", "precision", "question_type", "answer_type", "query")
_COLUMNS = (*_FACTS, "pid", "question", "choices", "answer", "metadata")
_GROUPS = ("language", "source", "category", "task", "context", "grade")


class MathVista(Benchmark):
    """MathVista.

    Args:
        root: Folder with ``testmini-*.parquet`` or ``test-*.parquet``, images inside, in any folder below, as its data
            set has them.
        split: ``testmini``, or ``test``, whose answers its authors keep.
    """

    def __init__(self, root: str, split: Literal["testmini", "test"] = "testmini") -> None:
        self.root = root
        self.split = split

    @property
    def name(self) -> str:
        """Its name."""
        return f"mathvista-{self.split}"

    def items(self) -> list[Item]:
        """Read the questions."""
        files = parquet_files(Path(self.root), f"{self.split}-*.parquet", "MathVista's questions")
        return [_item(row, file, index) for file in files for index, row in enumerate(read_parquet(file, _COLUMNS))]


def _item(row: Mapping[str, Any], file: Path, index: int) -> Item:
    meta = row["metadata"]
    groups = {name: str(meta[name]) for name in _GROUPS if meta.get(name)}
    return Item(
        id=str(row["pid"]),
        media=(Medium("image", str(file), inside=Cell(index, "decoded_image")),),
        question=row["question"],
        options=tuple(row["choices"] or ()),
        answer=row["answer"] or None,
        groups={"question_type": row["question_type"], "answer_type": row["answer_type"], **groups},
        facts={name: row[name] for name in _FACTS},
    )


class _Extracted(Protocol):
    metrics = ACCURACY
    max_new_tokens = 16384

    def guide(self, item: Item) -> str:
        """The question with its options."""
        return with_options(item.question, item.options)

    def requests(self, rows: tuple[Row, ...]) -> tuple[Request, ...]:
        """What a judge is asked: to read out an answer that is more than an option, or a number of the kind."""
        if _direct(rows[0]) is not None:
            return ()
        return (Request("", extraction_prompt(self._queried(rows[0]), rows[0].text.strip()), 256),)

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """1 for the reference. Without the judge's reply, where one is needed, the answer does not count."""
        row = rows[0]
        extraction = replies[0] if replies else _direct(row)
        if extraction is None:
            return Mark({"accuracy": None}, None)
        read = self._read(row, extraction.strip())
        if row.answer is None:
            return Mark({"accuracy": None}, read)
        return Mark({"accuracy": float(read is not None and read.strip() == row.answer.strip())}, read)

    def submission(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """Of the test split: what its authors' ``extract_answer.py`` takes, one response a question."""
        if any(row.answer is not None for row in rows):
            return {}
        known = ("question_type", "answer_type", "precision", "query")
        told = {
            row.id: {
                **{name: row.facts[name] for name in known},
                "pid": row.id,
                "question": row.question,
                "choices": list(row.options) or None,
                "response": row.text,
            }
            for row in rows
        }
        return {f"{rows[0].benchmark}.json": json.dumps(told, ensure_ascii=False)}

    def _queried(self, row: Row) -> str:
        return row.question

    def _read(self, row: Row, extraction: str) -> str | None:
        return _normal(row, extraction, closest=True, whole_precision=True)


class Lmms(_Extracted):
    """As lmms-eval asks and marks it.

    Without a judge it takes the shortest option in silence; here such an answer does not count.

    Args:
        hints: Which of its tasks: ``mathvista_testmini_format``, ``_solution`` or ``_cot``.
        closest: Take the option with the fewest edits for an answer that is none, as it does: of an empty answer the
            shortest; otherwise it is unparsed.
        float_precision: Round to a number of places that is a float, as the table has it and as it does, which Python
            refuses: all decimal answers are wrong. Otherwise it is made a whole number.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/mathvista, mathvista_testmini_{format,solution,cot}"

    def __init__(self, hints: Hints = "format", closest: bool = True, float_precision: bool = True) -> None:
        self.hints: Hints = hints
        self.closest = closest
        self.float_precision = float_precision

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question with its unit, options, and what kind of answer is asked for."""
        short = self.hints == "format"
        unit = f" (Unit: {item.facts['unit']})" if item.facts["unit"] else ""
        question = f"{'' if short else 'Question: '}{item.question}{unit}"
        options = lettered(item.options, "{}. {}" if short else "({}) {}")
        if options and not short:
            options = f"Choices:\n{options}"
        asked = hint(self.hints, item.facts["answer_type"], item.facts["precision"])
        return "\n".join(filter(None, [question, options, asked, "Solution:" if self.hints == "solution" else ""]))

    def _queried(self, row: Row) -> str:
        return row.facts["query"]

    def _read(self, row: Row, extraction: str) -> str | None:
        return _normal(row, extraction, closest=self.closest, whole_precision=not self.float_precision)


class Official(_Extracted):
    """As its authors ask and mark it: the query of the table, and the question alone for the judge."""

    name = "official"
    version = "1"
    source = "lupantech/MathVista 0a520c4: evaluation/extract_answer.py, evaluation/calculate_score.py; gpt-4-0613"
    max_new_tokens = 1024

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """The query that comes with the question."""
        return item.facts["query"]


def _direct(row: Row) -> str | None:
    """An answer that needs no reading; None: it does."""
    text = row.text.strip()
    if not text or (row.facts["question_type"] == "multi_choice" and text in row.options):
        return text
    kinds: dict[str, Callable[[str], object]] = {"integer": int, "float": float}
    return _converted(text, kinds.get(row.facts["answer_type"]))


def _normal(row: Row, extraction: str, *, closest: bool, whole_precision: bool) -> str | None:
    facts = row.facts
    if facts["question_type"] == "multi_choice":
        return _option(row, extraction, closest=closest)
    if facts["answer_type"] == "integer":
        return _converted(extraction, lambda text: int(float(text)))
    if facts["answer_type"] == "float":
        precision = int(facts["precision"]) if whole_precision else facts["precision"]
        return _converted(extraction, lambda text: round(float(text), precision))
    return extraction


def _option(row: Row, extraction: str, *, closest: bool) -> str | None:
    in_brackets = re.findall(r"\(([a-zA-Z])\)", extraction)
    named = in_brackets[0].upper() if in_brackets else extraction
    letters = [letter(index) for index in range(len(row.options))]
    if named in letters:
        return row.options[letters.index(named)]
    if closest:
        return closest_option(named, row.options)
    return named if named in row.options else None


def _converted(text: str, kind: Callable[[str], object] | None) -> str | None:
    try:
        return None if kind is None else str(kind(text))
    except (ValueError, OverflowError, TypeError):
        return None
