"""MMMU (Yue et al. 2024, arXiv:2311.16502): 900 validation questions of 30 college subjects, with one to seven images.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import ACCURACY
from ppl.evaluation.image_files import parquet_files
from ppl.evaluation.instructions import LETTER_ANSWER, SHORT_ANSWER
from ppl.evaluation.items import MEDIA_MARK, Cell, Item, Medium, Shown
from ppl.evaluation.letters_lmms import mark_or_guess, mmmu_letter
from ppl.evaluation.mmmu_answers import open_candidates, open_is_right
from ppl.evaluation.option_matching import lettered, with_options
from ppl.evaluation.protocol import Mark, Protocol
from ppl.evaluation.rows import Row
from ppl.evaluation.tables import read_parquet

_COLUMNS = ("id", "question", "options", "answer", "question_type")
_DOMAINS = {
    "Art and Design": "Art Art_Theory Design Music",
    "Business": "Accounting Economics Finance Manage Marketing",
    "Science": "Biology Chemistry Geography Math Physics",
    "Health and Medicine": "Basic_Medical_Science Clinical_Medicine Diagnostics_and_Laboratory_Medicine Pharmacy "
    "Public_Health",
    "Humanities and Social Science": "History Literature Sociology Psychology",
    "Tech and Engineering": "Agriculture Architecture_and_Engineering Computer_Science Electronics Energy_and_Power "
    "Materials Mechanical_Engineering",
}
_IMAGE = re.compile(r"<image (\d+)>")


class MMMU(Benchmark):
    """MMMU's validation split.

    Args:
        root: Folder with ``validation-*.parquet``, one a subject in a folder of its own, as its data set has them.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """Its name."""
        return "mmmu-val"

    def items(self) -> list[Item]:
        """Read the questions."""
        files = parquet_files(Path(self.root), "validation-*.parquet", "MMMU's questions")
        return [_item(row, file, index) for file in files for index, row in enumerate(read_parquet(file, _COLUMNS))]


def _item(row: Mapping[str, str], file: Path, index: int) -> Item:
    options = tuple(str(option) for option in ast.literal_eval(row["options"]))
    numbers = sorted(set(_IMAGE.findall("\n".join([row["question"], *options]))))
    subject = re.sub(r"^[^_]*_(.+)_\d+$", r"\1", row["id"])
    domain = next((domain for domain, subjects in _DOMAINS.items() if subject in subjects.split()), "other")
    return Item(
        id=row["id"],
        media=tuple(Medium("image", str(file), inside=Cell(index, f"image_{number}")) for number in numbers),
        question=row["question"],
        options=options if row["question_type"] == "multiple-choice" else (),
        answer=row["answer"],
        groups={"domain": domain, "subject": subject, "question_type": row["question_type"]},
    )


class _Marked(Protocol):
    metrics = ACCURACY
    guess: bool

    def guide(self, item: Item) -> str:
        """The question with its options, without the names of images."""
        return re.sub(" +", " ", _IMAGE.sub("", with_options(item.question, item.options))).strip()

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """By MMMU's own rules: a letter, or words and numbers among the candidates."""
        row = rows[0]
        return _mark_letter(row, guess=self.guess) if row.options else _mark_open(row)


class Lmms(_Marked):
    """As lmms-eval asks and marks it.

    Args:
        guess: Draw a letter where none was read, as it does; otherwise the answer is wrong.
        interleaved: Show images where the text speaks of them, as its chat models see them, an image after each piece
            of text; otherwise all come first and the text keeps its ``<image 1>``, as its other models see them.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/mmmu, mmmu_val"
    max_new_tokens = 128

    def __init__(self, guess: bool = True, interleaved: bool = False) -> None:
        self.guess = guess
        self.interleaved = interleaved

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question, options, an empty line and the instruction."""
        if item.options:
            text = f"{item.question}\n{lettered(item.options)}\n\n{LETTER_ANSWER}"
        else:
            text = f"{item.question}\n\n{SHORT_ANSWER}"
        return _interleave(text, len(item.media)) if self.interleaved else text


class Official(_Marked):
    """As its authors ask LLaVA-1.5: options in brackets; marked like lmms-eval's, which took their rules over.

    Their script shows the first image only; all are shown here.

    Args:
        guess: Draw a letter where none was read, as they do; otherwise the answer is wrong.
    """

    name = "official"
    version = "1"
    source = "MMMU-Benchmark/MMMU 51ce7f3: eval/utils/data_utils.py, configs/llava1.5.yaml, eval_utils.py"
    max_new_tokens = 128

    def __init__(self, guess: bool = True) -> None:
        self.guess = guess

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question, options and instruction."""
        if not item.options:
            return f"{item.question}\n{SHORT_ANSWER}"
        return f"{item.question}\n{lettered(item.options, '({}) {}')}\n\n{LETTER_ANSWER}"


def _interleave(text: str, images: int) -> str:
    pieces = [piece.strip() for piece in _IMAGE.split(text)[::2]]
    parts: list[str] = []
    for index in range(images):
        parts += [pieces[index] if index < len(pieces) - 1 else "", MEDIA_MARK]
    return "\n".join(filter(None, [*parts, pieces[-1]]))


def _mark_letter(row: Row, *, guess: bool) -> Mark:
    return mark_or_guess(row, mmmu_letter(row.text, row.options), guess=guess)


def _mark_open(row: Row) -> Mark:
    candidates: list[Any] = open_candidates(row.text)
    right = row.answer is not None and open_is_right(candidates, row.answer)
    return Mark({"accuracy": float(right)}, "; ".join(map(str, candidates)) if row.text.strip() else None)
