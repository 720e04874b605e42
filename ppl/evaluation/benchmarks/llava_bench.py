"""LLaVA-Bench in the wild (Liu et al. 2023, arXiv:2304.08485): 60 open questions, marked beside GPT-4's answers.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.image_files import image, read_json_lines
from ppl.evaluation.items import Item, Shown
from ppl.evaluation.judge import Request
from ppl.evaluation.protocol import Mark, Protocol, Score, Unit
from ppl.evaluation.rows import Row

_RATINGS = {"rating": 10.0, "reference_rating": 10.0}
"""What a judge gave the model and GPT-4, 1 to 10, as percentages."""
_RULE = (
    "We would like to request your feedback on the performance of two AI assistants in response to the user question "
    "displayed above. The user asks the question on observing an image. For your reference, the visual content in the "
    "image is represented with a few sentences describing the image. \n"
    "Please rate the helpfulness, relevance, accuracy, level of details of their responses. Each assistant receives an "
    "overall score on a scale of 1 to 10, where a higher score indicates better overall performance.\n"
    "Please first output a single line containing only two values indicating the scores for Assistant 1 and 2, "
    "respectively. The two scores are separated by a space.\n"
    "In the subsequent line, please provide a comprehensive explanation of your evaluation, avoiding any potential "
    "bias and ensuring that the order in which the responses were presented does not affect your judgment."
)
"""The same for its three categories."""


class LlavaBench(Benchmark):
    """LLaVA-Bench in the wild.

    Args:
        root: Folder with ``questions.jsonl``, ``context.jsonl``, ``answers_gpt4.jsonl`` and ``images/``, as its data
            set has them.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """Its name."""
        return "llava-bench-in-the-wild"

    def items(self) -> list[Item]:
        """Read the questions, with GPT-4's answers as references, which saw a description in place of the image."""
        root = Path(self.root)
        questions = read_json_lines(root / "questions.jsonl", "LLaVA-Bench's questions")
        contexts = read_json_lines(root / "context.jsonl", "LLaVA-Bench's descriptions of its images")
        answers = read_json_lines(root / "answers_gpt4.jsonl", "GPT-4's answers to LLaVA-Bench")
        captions = {row["image"]: row["caption"] for row in contexts}
        references = {row["question_id"]: row["text"] for row in answers}
        return [_item(row, captions[row["image"]], references[row["question_id"]], root) for row in questions]


def _item(row: Mapping[str, Any], caption: str | list[str], reference: str, root: Path) -> Item:
    return Item(
        id=str(row["question_id"]),
        media=image(root / "images" / row["image"]),
        question=row["text"],
        answer=reference,
        cluster=row["image"],
        groups={"category": row["category"]},
        facts={"context": caption if isinstance(caption, str) else "\n".join(caption)},
    )


class _Compared(Protocol):
    metrics = _RATINGS
    max_new_tokens = 1024
    average_failed: bool

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """The question alone."""
        return item.question

    def requests(self, rows: tuple[Row, ...]) -> tuple[Request, ...]:
        """What a judge is asked: to rate GPT-4's answer and the model's, given a description of the image."""
        row = rows[0]
        content = (
            f"[Context]\n{row.facts['context']}\n\n[Question]\n{row.question}\n\n"
            f"[Assistant 1]\n{row.answer}\n\n[End of Assistant 1]\n\n"
            f"[Assistant 2]\n{row.text}\n\n[End of Assistant 2]\n\n[System]\n{_RULE}\n\n"
        )
        return (Request(self._judge_system(), content, 1024),)

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """The two ratings; without any reply neither counts."""
        if replies[0] is None:
            return Mark({"rating": None, "reference_rating": None}, None)
        pair = self._ratings(replies[0])
        if pair is None or not math.isfinite(sum(pair)):
            nothing = -1.0 if self.average_failed else None
            return Mark({"rating": nothing, "reference_rating": nothing}, None)
        return Mark({"rating": pair[1], "reference_rating": pair[0]}, f"{pair[0]:g} {pair[1]:g}")

    def extra_scores(self, units: Sequence[Unit]) -> list[Score]:
        """The model's mean rating as a percentage of GPT-4's, of all and of each category: the score that is quoted."""
        groups = {"overall": list(units)}
        for unit in units:
            groups.setdefault(f"category={unit.rows[0].groups['category']}", []).append(unit)
        return [_relative(group, members) for group, members in groups.items()]

    def _judge_system(self) -> str:
        return ""

    def _ratings(self, reply: str) -> tuple[float, float] | None:
        numbers = re.findall(r"-?\d+(?:\.\d+)?", reply.strip().split("\n")[0])
        return (float(numbers[0]), float(numbers[1])) if len(numbers) >= 2 else None


class Lmms(_Compared):
    """As lmms-eval asks and marks it.

    Args:
        average_failed: Average -1 and -1 in where no ratings could be read of the judge's reply, as it does; they are
            counted as unparsed too. Otherwise the answer does not count.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/llava-in-the-wild, llava_in_the_wild; it rounds to 0.1"
    max_new_tokens = 4096

    def __init__(self, average_failed: bool = True) -> None:
        self.average_failed = average_failed


class Official(_Compared):
    """As its authors ask and mark it: the first line must be two numbers and nothing else.

    Args:
        average_failed: Average -1 and -1 in where it is not, as they do. Otherwise the answer does not count.
    """

    name = "official"
    version = "1"
    source = "haotian-liu/LLaVA 181a2f8: llava/eval/eval_gpt_review_bench.py, table/rule.json; its judge was gpt-4-0314"

    def __init__(self, average_failed: bool = True) -> None:
        self.average_failed = average_failed

    def _judge_system(self) -> str:
        return "You are a helpful and precise assistant for checking the quality of the answer."

    def _ratings(self, reply: str) -> tuple[float, float] | None:
        words = reply.split("\n")[0].replace(",", " ").split(" ")
        try:
            first, second = (float(word) for word in words)
        except ValueError:
            return None
        return first, second


def _relative(group: str, units: Sequence[Unit]) -> Score:
    values = [unit.mark.values for unit in units if unit.mark.values["rating"] is not None]
    given, reference = (sum(each[name] or 0.0 for each in values) for name in ("rating", "reference_rating"))
    return Score("relative", group, 100 * given / reference if reference else None, len(values))
