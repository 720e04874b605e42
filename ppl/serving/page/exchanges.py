"""A question about a clip and its answers, as they grow.

Axes: t h w frames, rows, columns of cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

from jaxtyping import Float
from torch import Tensor

from ppl.serving.answers import Answer, Report
from ppl.serving.encoded_media import EncodedMedium


@dataclass(frozen=True)
class Way:
    """How to pool for an answer.

    Args:
        pooler: One of the engine's by name; None: the model's own.
        budget: Visual tokens at most; None: as the pooler has it.
    """

    pooler: str | None = None
    budget: int | None = None


@dataclass
class Reply:
    """An answer that may still grow."""

    way: Way
    text: str = ""
    report: Report | None = None
    """Known when it has ended."""
    problem: str = ""
    """Why there is none."""

    def extend(self, piece: str | Report | Exception, explain: Callable[[BaseException], str]) -> None:
        """Take what comes next of `pieces_of`; an error as it is explained."""
        if isinstance(piece, str):
            self.text += piece
        elif isinstance(piece, Report):
            self.report = piece
        else:
            self.problem = explain(piece)


@dataclass
class Exchange:
    """A question, with an answer for each way to pool."""

    question: str
    replies: list[Reply]
    """The conversation goes on with the first one's answer."""
    relevance: Float[Tensor, "t h w"] | None = None
    """Of places in the clip's frames to the question."""
    problem: str = ""
    """Why there is no relevance."""


@dataclass(frozen=True)
class Clip:
    """What is asked about."""

    name: str
    """As the visitor knows it."""
    medium: EncodedMedium


def pieces_of(answers: Mapping[int, Answer]) -> Iterator[tuple[int, str | Report | Exception]]:
    """Pieces of several answers with their numbers; each ends with a report or an error."""
    pieces: SimpleQueue[tuple[int, str | Report | Exception]] = SimpleQueue()

    def read(index: int, answer: Answer) -> None:
        try:
            for piece in answer:
                pieces.put((index, piece))
            pieces.put((index, answer.report.result()))
        except Exception as error:  # belongs to whoever asked
            pieces.put((index, error))

    for pair in answers.items():
        Thread(target=read, args=pair, daemon=True).start()
    left = len(answers)
    while left:
        index, piece = pieces.get()
        left -= not isinstance(piece, str)
        yield index, piece
