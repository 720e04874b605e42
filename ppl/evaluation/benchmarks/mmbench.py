"""MMBench (Liu et al. 2024, arXiv:2307.06281), English and Chinese: each question with its options in every order.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks.
"""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import ACCURACY
from ppl.evaluation.image_files import read_base64_table
from ppl.evaluation.instructions import LETTER_ANSWER
from ppl.evaluation.items import Item, Medium, Shown, letter
from ppl.evaluation.judge import Request
from ppl.evaluation.letters_lmms import ranked_letter
from ppl.evaluation.option_matching import inferred_option, lettered, with_options
from ppl.evaluation.protocol import Mark, Protocol
from ppl.evaluation.rows import Row

_ROTATIONS = 1_000_000
"""A rotation's number is its question's and a multiple of this."""
_NOT_ASKED = "-"
"""What an answer is taken for where another one of its question is wrong already."""
_WORDS = {
    "en": ("There are several options:", LETTER_ANSWER, LETTER_ANSWER),
    "cn": ("有如下几个选项：", "请直接使用所提供的选项字母作为答案回答。", "请直接回答选项字母。"),
}
"""What lmms-eval means to say before the options, what it says after them, and what LLaVA's script says after them."""
_MATCHING = (
    "You are an AI assistant who will help me to match an answer with several options of a single-choice question. "
    "You are provided with a question, several options, and an answer, and you need to find which option is most "
    "similar to the answer. If the meaning of all options are significantly different from the answer, output E. "
    "Your should output a single uppercase character in A, B, C, D (if they are valid options), and E. \n"
    "Example 1: \nQuestion: What is the main object in image?\n"
    "Options: A. teddy bear B. rabbit C. cat D. dog\nAnswer: a cute teddy bear\nYour output: A\n"
    "Example 2: \nQuestion: What is the main object in image?\n"
    "Options: A. teddy bear B. rabbit C. cat D. dog\nAnswer: Spider\nYour output: E\n"
    "Example 3: \nQuestion: {}?\nOptions: There are several options: \n{}\n\nAnswer: {}\nYour output: "
)


class MMBench(Benchmark):
    """MMBench's rows: questions and their rotations.

    Args:
        root: Folder with ``MMBench_{DEV,TEST}_{EN,CN}{,_V11}.tsv``, images inside, as OpenCompass distributes them.
        split: ``dev``, or ``test``, whose answers its authors keep.
        language: Of questions and options.
        revised: Take version 1.1, whose bad questions were removed.
    """

    def __init__(
        self,
        root: str,
        split: Literal["dev", "test"] = "dev",
        language: Literal["en", "cn"] = "en",
        revised: bool = False,
    ) -> None:
        self.root = root
        self.split = split
        self.language = language
        self.revised = revised

    @property
    def name(self) -> str:
        """Its name."""
        return f"mmbench-{self.language}-{self.split}" + ("-v11" if self.revised else "")

    def items(self) -> list[Item]:
        """Read the rows."""
        version = "_V11" if self.revised else ""
        file = Path(self.root) / f"MMBench_{self.split.upper()}_{self.language.upper()}{version}.tsv"
        rows = read_base64_table(file, "image", "MMBench's questions")
        rotations = Counter(_number(row) for row, _ in rows)
        return [_item(row, medium, self.language, rotations[_number(row)]) for row, medium in rows]


def _number(row: Mapping[str, str]) -> int:
    return int(row["index"]) % _ROTATIONS


def _item(row: Mapping[str, str], medium: Medium, language: str, rotations: int) -> Item:
    options = [row.get(name, "") for name in "ABCD"]
    known = tuple(option for option in options if option and option != "nan")
    groups = {"category": row.get("category"), "l2-category": row.get("l2-category") or row.get("L2-category")}
    return Item(
        id=row["index"],
        media=(medium,),
        question=row["question"],
        options=known,
        answer=row.get("answer") or None,
        cluster=str(_number(row)),
        groups={name: value for name, value in groups.items() if value},
        facts={
            "hint": "" if row.get("hint") in (None, "nan") else row["hint"],
            "language": language,
            "rotations": rotations,
        },
    )


class _Circular(Protocol):
    """A question counts if all its rotations are answered right."""

    metrics = ACCURACY
    judged: bool
    guess: bool

    def guide(self, item: Item) -> str:
        """The question with its options."""
        return with_options(item.question, item.options)

    def units(self, rows: Sequence[Row]) -> list[tuple[Row, ...]]:
        """A question and its rotations, in the order of their numbers."""
        found: dict[str, list[Row]] = {}
        for row in sorted(rows, key=lambda row: int(row.id)):
            found.setdefault(row.cluster, []).append(row)
        return [tuple(unit) for unit in found.values()]

    def is_whole(self, rows: tuple[Row, ...]) -> bool:
        """Whether all rotations were answered that the benchmark's file has of the question."""
        return len(rows) == rows[0].facts["rotations"]

    def requests(self, rows: tuple[Row, ...]) -> tuple[Request, ...]:
        """What a judge is asked: about answers that neither name nor repeat an option, if no other is wrong."""
        if not self.judged or any(row.answer is None or _infer(row) not in (None, row.answer) for row in rows):
            return ()
        return tuple(Request("", _matching(row), 256) for row in rows if _infer(row) is None)

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """1 if all are right. Without a judge's reply, where one is needed, the question does not count."""
        if any(row.answer is None for row in rows):
            return Mark({"accuracy": None}, _joined([_infer(row) for row in rows]))
        if any(reply is None for reply in replies):
            return Mark({"accuracy": None}, None)
        left = iter(replies)
        read = [_infer(row) or self._match(row, left) for row in rows]
        guess = self.guess and self.judged
        said = [each or (_guess(row) if guess else None) for each, row in zip(read, rows, strict=True)]
        right = all(each == row.answer for each, row in zip(said, rows, strict=True))
        return Mark({"accuracy": float(right)}, _joined(read))

    def submission(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """Of the test split: the table that OpenCompass's server takes, tab-separated; it wants it saved as xlsx."""
        if any(row.answer is not None for row in rows):
            return {}
        text = io.StringIO()
        table = csv.writer(text, delimiter="\t", lineterminator="\n")
        table.writerow(["index", "question", "A", "B", "C", "D", "prediction", "category", "l2-category"])
        for row in rows:
            options = [*row.options, "", "", "", ""][:4]
            groups = [row.groups.get(name, "") for name in ("category", "l2-category")]
            table.writerow([row.id, row.question, *options, row.text.strip(), *groups])
        return {f"{rows[0].benchmark}.tsv": text.getvalue()}

    def _match(self, row: Row, replies: Iterator[str | None]) -> str | None:
        if not self.judged:
            return ranked_letter(row.text.strip(), list(_by_letter(row)))
        reply = next(replies, _NOT_ASKED)
        return reply if reply in (None, _NOT_ASKED) else inferred_option(reply, _by_letter(row))


class Lmms(_Circular):
    """As lmms-eval asks and marks it.

    Its Chinese task takes at most 256 tokens of an answer.

    Args:
        judged: Ask a judge about answers that neither name nor repeat an option (``mmbench_en_dev``); otherwise take
            the letter in the most telling place (``mmbench_en_dev_static``).
        guess: Draw a letter, E among them, where a judge's reply has none, as it does; otherwise the answer is wrong.
        english_header: Announce Chinese options in English, as it does: its Chinese task reads the words of its English
            group (``mmbench.yaml``); otherwise in Chinese, as its own group's file (``mmbench_cn.yaml``) has it.
    """

    name = "lmms"
    version = "3"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/mmbench, mmbench_{en,cn}_dev, mmbench_en_dev_static"
    max_new_tokens = 1024

    def __init__(self, judged: bool = True, guess: bool = True, english_header: bool = True) -> None:
        self.judged = judged
        self.guess = guess
        self.english_header = english_header

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Hint, question and options on from one another, an empty line, and the instruction."""
        language = item.facts["language"]
        before, after = _WORDS["en" if self.english_header else language][0], _WORDS[language][1]
        hint = f"{item.facts['hint']} " if item.facts["hint"] else ""
        return f"{hint}{item.question} {before}\n{lettered(item.options)}\n\n{after}"


class Llava(_Circular):
    """As LLaVA's script asks it; marked as MMBench's own rules go, which LLaVA leaves to its server.

    Args:
        judged: Ask a judge about answers that neither name nor repeat an option, as the server does; otherwise take
            the letter in the most telling place.
    """

    name = "llava"
    version = "2"
    source = "haotian-liu/LLaVA c121f04: llava/eval/model_vqa_mmbench.py; open-compass/MMBench"
    max_new_tokens = 1024
    guess = False

    def __init__(self, judged: bool = True) -> None:
        self.judged = judged

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Hint, question, options and instruction, each on a line."""
        parts = [item.facts["hint"], item.question, lettered(item.options), _WORDS[item.facts["language"]][2]]
        return "\n".join(filter(None, parts))


def _by_letter(row: Row) -> dict[str, str]:
    return {letter(index): option for index, option in enumerate(row.options)}


def _infer(row: Row) -> str | None:
    return inferred_option(row.text.strip(), _by_letter(row))


def _matching(row: Row) -> str:
    return _MATCHING.format(row.question, lettered(row.options), row.text.strip())


def _guess(row: Row) -> str:
    return random.Random(row.id).choice([*_by_letter(row), "E"])


def _joined(read: Sequence[str | None]) -> str | None:
    return None if None in read else " ".join(filter(None, read))
