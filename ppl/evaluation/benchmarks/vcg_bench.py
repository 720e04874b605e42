"""VCG-Bench, Video-ChatGPT's benchmark (Maaz et al. 2024, arXiv:2306.05424): answers judged by five aspects."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ppl.evaluation.annotations import find_video, read_json_list
from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.items import Item, Medium, Shown
from ppl.evaluation.judge import Request
from ppl.evaluation.judge_prompts import Aspect, aspect_request, consistency_request
from ppl.evaluation.judge_replies import read_number
from ppl.evaluation.protocol import Frames, Mark, Protocol, Score, Unit
from ppl.evaluation.rows import Row
from ppl.evaluation.text_metrics import token_f1

_ASPECTS: dict[str, tuple[Aspect, ...]] = {
    "generic": ("correctness", "detail", "context"),
    "temporal": ("temporal",),
    "consistency": ("consistency",),
}
"""What is judged of each set of questions."""


class VCGBench(Benchmark):
    """VCG-Bench: 1996 generic questions, 499 about time, and 499 pairs of questions with one reference.

    Args:
        root: Folder with ``Benchmarking_QA/{generic,temporal,consistency}_qa.json`` and ``Test_Videos/``, as
            Video-ChatGPT distributes them.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """Its name."""
        return "vcg-bench"

    def items(self) -> list[Item]:
        """Read the questions, two for each pair."""
        return [item for kind in _ASPECTS for item in self._items(kind)]

    def _items(self, kind: str) -> Iterator[Item]:
        names = ("Q1", "Q2") if kind == "consistency" else ("Q",)
        file = Path(self.root) / "Benchmarking_QA" / f"{kind}_qa.json"
        rows = read_json_list(file, "VCG-Bench's questions", ("video_name", "A", *names))
        for index, row in enumerate(rows):
            for place, name in enumerate(names):
                pair = {"pair": index, "place": place} if len(names) > 1 else {}
                yield self._item(
                    kind, row, row[name], "-".join(map(str, [kind, index, *([place] if pair else [])])), pair
                )

    def _item(self, kind: str, row: Mapping[str, Any], question: str, name: str, pair: Mapping[str, int]) -> Item:
        return Item(
            id=name,
            media=(Medium("video", find_video(Path(self.root) / "Test_Videos", row["video_name"])),),
            question=question,
            answer=row["A"],
            cluster=row["video_name"],
            groups={"set": kind},
            facts=pair,
        )


class _VCGProtocol(Protocol):
    metrics = {aspect: 1.0 for aspects in _ASPECTS.values() for aspect in aspects} | {"token_f1": 100.0}
    whole_scores: bool

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """The question."""
        return item.question

    def units(self, rows: Sequence[Row]) -> list[tuple[Row, ...]]:
        """Answers to the questions of a pair together, the first question's first."""
        units: dict[object, list[Row]] = {}
        for row in rows:
            units.setdefault(row.facts.get("pair", row.id), []).append(row)
        return [tuple(sorted(unit, key=lambda row: row.facts.get("place", 0))) for unit in units.values()]

    def is_whole(self, rows: tuple[Row, ...]) -> bool:
        """Whether both questions of a pair were answered."""
        return len(rows) == (2 if "pair" in rows[0].facts else 1)

    def requests(self, rows: tuple[Row, ...]) -> tuple[Request, ...]:
        """A score of each aspect; one of a pair."""
        first, answer = rows[0], rows[0].answer or ""
        if first.groups["set"] != "consistency":
            return tuple(self.aspect(aspect, first, answer) for aspect in _ASPECTS[first.groups["set"]])
        return (consistency_request(self.pair_of(rows), answer, (first.text.strip(), rows[1].text.strip())),)

    def aspect(self, aspect: Aspect, row: Row, answer: str) -> Request:
        """Ask about one aspect."""
        return aspect_request(aspect, row.question, answer, row.text.strip())

    def pair_of(self, rows: tuple[Row, ...]) -> tuple[str, str]:
        """The two questions that the judge is told."""
        return rows[0].question, rows[1].question

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """The judge's scores, and beside them how far the words agree, which needs no judge."""
        aspects = _ASPECTS[rows[0].groups["set"]]
        scores = [None if reply is None else self.score(reply) for reply in replies]
        values: dict[str, float | None] = dict(zip(aspects, map(self._counted, scores), strict=True))
        values["token_f1"] = fmean(token_f1(row.text, row.answer or "") for row in rows)
        unread = any(reply is not None and score is None for reply, score in zip(replies, scores, strict=True))
        return Mark(values, None if unread else rows[0].text.strip())

    def score(self, reply: str) -> float | None:
        """What a judge replied, from 0 to 5; None: it could not be read."""
        return read_number(reply, "score", 0, 5)

    def _counted(self, score: float | None) -> float | None:
        return float(int(score)) if score is not None and self.whole_scores else score

    def extra_scores(self, units: Sequence[Unit]) -> list[Score]:
        """The mean of the five aspects' means; nothing unless all five were judged."""
        means = []
        for aspect in (aspect for aspects in _ASPECTS.values() for aspect in aspects):
            values = [value for unit in units if (value := unit.mark.values.get(aspect)) is not None]
            if not values:
                return [Score("average", "overall", None, 0)]
            means.append(fmean(values))
        return [Score("average", "overall", fmean(means), len(means))]


class Official(_VCGProtocol):
    """As its authors ask and mark it.

    Args:
        num_frames: Of each video; 100 for the authors' own model.
        whole_scores: Cut the decimals off a judge's score, as their code does; otherwise they count.
    """

    name = "official"
    version = "1"
    source = "mbzuai-oryx/Video-ChatGPT 659e04b: quantitative_evaluation"
    max_new_tokens = 1024

    def __init__(self, num_frames: int = 100, whole_scores: bool = True) -> None:
        self.num_frames = num_frames
        self.whole_scores = whole_scores

    def frames(self, item: Item) -> Frames:
        """As many as asked for, ends included."""
        return Frames(self.num_frames, "linspace")


class Paper(_VCGProtocol):
    """As PPLLaVA's code asks and marks it, but that it takes a reply without a score for 0, or for the one before it.

    Args:
        system_prompt: Begin with Video-ChatGPT's system prompt; the script as published does not.
        second_question_twice: Tell the judge the second question of a pair in both places: the code exchanges the two
            when it stores them, and then reads the first twice. Otherwise each beside its answer.
        unknown_is_zero: Tell the judge of correctness that "I don't know" is 0, as the code does and the others not.
        whole_scores: Cut the decimals off a judge's score, as the code does; otherwise they count.
    """

    name = "paper"
    version = "1"
    source = "farewellthree/PPLLaVA d5766c8: ppllava/test/vcgbench, gpt_evaluation/evaluate_benchmark_*.py"
    max_new_tokens = 200

    def __init__(
        self,
        system_prompt: bool = False,
        second_question_twice: bool = True,
        unknown_is_zero: bool = True,
        whole_scores: bool = True,
    ) -> None:
        self.system_prompt = system_prompt
        self.second_question_twice = second_question_twice
        self.unknown_is_zero = unknown_is_zero
        self.whole_scores = whole_scores

    def system(self, item: Item) -> str | None:
        """Video-ChatGPT's, if asked for."""
        if not self.system_prompt:
            return None
        return (
            "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the video content "
            "that the user provides, and assist the user with a variety of tasks using natural language.Follow the "
            "instructions carefully and explain your answers in detail based on the provided video."
        )

    def frames(self, item: Item) -> Frames:
        """32."""
        return Frames(32, "segments")

    def aspect(self, aspect: Aspect, row: Row, answer: str) -> Request:
        """Ask about one aspect."""
        known = self.unknown_is_zero and aspect == "correctness"
        return aspect_request(aspect, row.question, answer, row.text.strip(), unknown_is_zero=known)

    def pair_of(self, rows: tuple[Row, ...]) -> tuple[str, str]:
        """The two questions that the judge is told."""
        first, second = super().pair_of(rows)
        return (second if self.second_question_twice else first), second


class Lmms(_VCGProtocol):
    """As lmms-eval asks and marks it; it prints no average of the aspects.

    It pairs answers by video in the order of its processes, and may lose some; here the questions tell. The blank line
    at which it has every answer end is left out: it parts examples, of which there are none, and would cut answers off.

    Args:
        num_frames: Of each video; lmms-eval leaves it to the model.
        strict_replies: Take every reply of a judge but a bare Python dictionary for 0, as it does; such are counted as
            malformed all the same. Otherwise they are read where they can be, and left out where not.
        whole_scores: Cut the decimals off a judge's score, as it does; otherwise they count.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/videochatgpt"
    max_new_tokens = 1024

    def __init__(self, num_frames: int = 32, strict_replies: bool = True, whole_scores: bool = True) -> None:
        self.num_frames = num_frames
        self.strict_replies = strict_replies
        self.whole_scores = whole_scores

    def frames(self, item: Item) -> Frames:
        """As many as asked for, ends included."""
        return Frames(self.num_frames, "linspace")

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """The judge's scores; 0 for what is no dictionary, if replies are strict."""
        if not self.strict_replies:
            return super().mark(rows, replies)
        read = [None if reply is None else _bare_score(reply) for reply in replies]
        filled = [None if reply is None else str(score or 0) for reply, score in zip(replies, read, strict=True)]
        unread = any(reply is not None and score is None for reply, score in zip(replies, read, strict=True))
        mark = super().mark(rows, filled)
        return Mark(mark.values, None if unread else mark.parsed)


def _bare_score(reply: str) -> int | None:
    try:
        return int(ast.literal_eval(reply.strip()).get("score", 0))
    except (ValueError, OverflowError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError):
        return None
