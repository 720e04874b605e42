"""The question-answer pairs about single videos that annotation files hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ppl.datamodules.records import Record


class Clip(NamedTuple):
    """A video, or a part of it."""

    video: str
    start: float | None
    """Seconds; None for the start of the video."""
    end: float | None
    """Seconds; None for the end of the video."""


class QuestionPair(NamedTuple):
    """One question about a clip, and its answer."""

    id: str
    """Of the record; the turns of a conversation share it."""
    question: str
    answer: str
    clip: Clip

    @property
    def text(self) -> str:
        """What frames are compared with."""
        return f"{self.question} {self.answer}"


def question_pairs(records: Iterable[Record]) -> tuple[list[QuestionPair], Counter[str]]:
    """Make a pair of every answered question of the records with exactly one video and no image.

    Args:
        records: Checked records.

    Returns:
        The pairs in order, and the number of records and questions left out, by reason.
    """
    pairs: list[QuestionPair] = []
    left_out: Counter[str] = Counter()
    for record in records:
        kinds = Counter(medium.kind for medium in record.media)
        if kinds["image"] or kinds["video"] != 1:
            several = "records with several videos" if kinds["video"] else "records without a video"
            left_out["records with images" if kinds["image"] else several] += 1
            continue
        (medium,) = record.media
        answers = [turn.text for turn in record.turns if turn.role == "assistant"]
        answers += [""] * (len(record.questions) - len(answers))  # the last question may be unanswered
        for question, answer in zip(record.questions, answers, strict=True):
            if answer:
                pairs.append(QuestionPair(record.id, question, answer, Clip(medium.path, medium.start, medium.end)))
            else:
                left_out["questions without an answer"] += 1
    return pairs, left_out
