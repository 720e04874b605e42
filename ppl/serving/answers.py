"""One answer on its way from the thread that runs the model to whoever asked.

Axes: b rows of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Event, Lock
from typing import Literal

from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from ppl.serving.streaming import texts_of, until_stop

Finish = Literal["stop", "length", "cancelled", "late"]
"""How an answer ended: by the model or a stop string; at its longest; unwanted; or out of time."""


@dataclass(frozen=True)
class Report:
    """What an answer took."""

    finish: Finish = "cancelled"
    num_prompt_tokens: int = 0
    """Positions before the answer, visual tokens included."""
    num_visual_tokens: int = 0
    num_tokens: int = 0
    """Of the answer."""
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    """Of the stages ``decode``, ``queue``, ``encode``, ``pool``, ``prefill`` and ``tokens``, as far as it got; the last
    two are those of all questions that were answered together."""
    num_rows: int = 0
    """Questions that were answered together, this one included."""
    num_found: int = 0
    """Media that were encoded for an earlier question."""


class Answer:
    """Iterate over it once, for the text piece by piece; what goes wrong is raised there.

    Args:
        tokenizer: Turns tokens into text.
        stop_strings: What ends the answer; no part of one is yielded.
        max_new_tokens: Longest answer.
        deadline: When it has to end, by `time.monotonic`.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop_strings: Sequence[str], max_new_tokens: int, deadline: float
    ) -> None:
        self.report: Future[Report] = Future()
        """Known when the answer has ended."""
        self.facts = Report()
        """What is known of the report so far."""
        self.ended = Event()
        """Whether it needs no more tokens."""
        self.max_new_tokens = max_new_tokens
        self.deadline = deadline
        self._stop_strings = tuple(stop_strings)
        self._tokenizer = tokenizer
        self._tokens: SimpleQueue[list[int] | None] = SimpleQueue()
        self._lock = Lock()

    def __iter__(self) -> Iterator[str]:
        """Yield text as it comes; once.

        Raises:
            ValueError: The question does not fit the model, or its media cannot be read.
        """
        yield from until_stop(texts_of(self._tokens, self._tokenizer), self._stop_strings)
        self.report.result()

    def cancel(self) -> None:
        """End it, whatever state it is in; a row that is being answered is free after the step the model is in."""
        self.end("cancelled")

    def start(self) -> bool:
        """Whether it is still wanted, now that its turn has come."""
        if time.monotonic() > self.deadline:
            self.end("late")
        return not self.ended.is_set()

    def take(self, token: int, ends: Collection[int]) -> None:
        """Take the next token; the thread of the model does."""
        if self.ended.is_set():
            return
        if token in ends:
            self.end("stop")
            return
        self.facts = replace(self.facts, num_tokens=self.facts.num_tokens + 1)
        self._tokens.put([token])
        if self.facts.num_tokens >= self.max_new_tokens:
            self.end("length")
        elif time.monotonic() > self.deadline:
            self.end("late")

    def add(self, **seconds: float) -> None:
        """Note what stages took."""
        told = {stage: 1000 * took for stage, took in seconds.items()}
        self.facts = replace(self.facts, milliseconds={**self.facts.milliseconds, **told})

    def end(self, finish: Finish) -> None:
        """Let what there is be the answer; the first to end it says how it ended."""
        with self._lock:
            if self.ended.is_set():
                return
            self.ended.set()
        self._tokens.put(None)
        self.report.set_result(replace(self.facts, finish=finish))

    def fail(self, error: BaseException) -> None:
        """Raise an error for whoever reads it."""
        with self._lock:
            if self.ended.is_set():
                return
            self.ended.set()
        self._tokens.put(None)
        self.report.set_exception(error)


class RowStreamer(BaseStreamer):
    """Hands the tokens of each row of a batch to its answer.

    Args:
        answers: One for each row.
        ends: Tokens that end a row, padding included.
    """

    def __init__(self, answers: Sequence[Answer], ends: Collection[int]) -> None:
        self._answers = answers
        self._ends = ends
        self._began = time.perf_counter()
        self._first: float | None = None

    def put(self, value: Tensor) -> None:
        """Take one step's tokens, (b,); the prompt has none, as it is embeddings."""
        if value.numel() == 0:
            return
        now = time.perf_counter()
        for answer, token in zip(self._answers, value.flatten().tolist(), strict=True):
            if self._first is None:
                answer.facts = replace(answer.facts, num_rows=len(self._answers))
                answer.add(prefill=now - self._began)
            else:
                answer.add(tokens=now - self._first)
            answer.take(token, self._ends)
        self._first = self._first or now

    def end(self) -> None:
        """Nothing: each answer ends for itself."""
