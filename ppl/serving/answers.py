"""One answer on its way from the thread that runs the model to whoever asked.

Axes: b rows of a batch.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from threading import Event, RLock
from typing import Literal

from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from ppl.modules.generation import end_tokens
from ppl.modules.stopping import StopSearch
from ppl.serving.streaming import texts_of, until_stop

Finish = Literal["stop", "length", "cancelled", "late"]
"""How an answer ended: by the model or a stop string; at its longest; unwanted; or out of time."""

_GLANCE = 60.0
"""Seconds after which whoever waits for a token looks at the time again."""


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
    """Of the stages ``decode``, ``queue``, ``encode``, ``pool``, ``prefill`` and ``tokens``, as far as it got.

    They add up to the time since it was asked: ``queue`` is all before prefill in which nothing was done for it alone;
    the last two are those of all questions that were answered together."""
    num_rows: int = 0
    """Questions that were answered together, this one included."""
    num_found: int = 0
    """Media that were encoded for an earlier question."""


class Answer:
    """Iterate over it once, for the text piece by piece; what goes wrong is raised there.

    An iterator that is closed before its end cancels the answer. Where nobody iterates, it comes to its end all the
    same. Each answer looks for its own stop strings and counts its own tokens: questions that are answered together
    may differ in both.

    Args:
        tokenizer: Turns tokens into text.
        stop_strings: What ends the answer; no part of one is yielded.
        max_new_tokens: Longest answer.
        deadline: When it has to end, by `time.monotonic`; whoever iterates waits no longer, even if the model is busy.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop_strings: Sequence[str], max_new_tokens: int, deadline: float
    ) -> None:
        self.report: Future[Report] = Future()
        """Known when the answer has ended."""
        self.report.set_running_or_notify_cancel()  # nobody but the answer itself ends it
        self.facts = Report()
        """What is known of the report so far."""
        self.ended = Event()
        """Whether it needs no more tokens."""
        self.max_new_tokens = max_new_tokens
        self.deadline = deadline
        self._tokenizer = tokenizer
        self._stops = StopSearch(tokenizer, tuple(stop_strings))
        self._ends = frozenset(end_tokens(tokenizer, stop_strings))
        self._said: list[int] = []
        self._tokens: SimpleQueue[list[int] | None] = SimpleQueue()
        self._lock = RLock()  # the collector of garbage closes iterators in whatever thread it runs

    def __iter__(self) -> Iterator[str]:
        """Yield text as it comes; a second time there is none.

        Raises:
            ValueError: The question does not fit the model, or its media cannot be read.
        """
        try:
            yield from until_stop(texts_of(self._taken(), self._tokenizer), self._stops.stop_strings)
        except BaseException:
            self.cancel()
            raise
        self.end("stop")  # nothing, but for a stop string that was read here before the thread of the model said so
        self.report.result()

    def cancel(self) -> None:
        """End it, whatever state it is in; a row that is being answered is free after the step the model is in."""
        self.end("cancelled")

    def is_wanted(self) -> bool:
        """Whether it needs tokens; ends it when it is late."""
        if time.monotonic() > self.deadline:
            self.end("late")
        return not self.ended.is_set()

    def take(self, token: int) -> None:
        """Take the next token; the thread of the model does. After the end there is nothing to take."""
        if self.ended.is_set():
            return
        if token in self._ends:
            self.end("stop")
            return
        self._said.append(token)
        self.facts = replace(self.facts, num_tokens=len(self._said))
        self._tokens.put([token])
        if self._stops.finds(self._said):
            self.end("stop")
        elif len(self._said) >= self.max_new_tokens:
            self.end("length")
        else:
            self.is_wanted()

    def add(self, **seconds: float) -> None:
        """Note what stages took."""
        told = {stage: 1000 * took for stage, took in seconds.items()}
        self.facts = replace(self.facts, milliseconds={**self.facts.milliseconds, **told})

    def end(self, finish: Finish) -> None:
        """Let what there is be the answer; the first to end it says how it ended."""
        if self._is_first_to_end():
            self.report.set_result(replace(self.facts, finish=finish))

    def fail(self, error: BaseException) -> None:
        """Raise an error for whoever reads it."""
        if self._is_first_to_end():
            traceback.clear_frames(error.__traceback__)  # they hold tensors, which are not to live on with the error
            self.report.set_exception(error)

    def _is_first_to_end(self) -> bool:
        with self._lock:
            if self.ended.is_set():
                return False
            self.ended.set()
        self._tokens.put(None)
        return True

    def _taken(self) -> Iterator[list[int]]:
        """Tokens as they come, up to the end or to the deadline."""
        while True:
            try:
                new = self._tokens.get(timeout=min(max(self.deadline - time.monotonic(), 0.0), _GLANCE))
            except Empty:
                self.is_wanted()
                continue
            if new is None:
                self._tokens.put(None)  # for whoever iterates again
                return
            yield new


class RowStreamer(BaseStreamer):
    """Hands the tokens of each row of a batch to its answer.

    Args:
        answers: One for each row.
    """

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers
        self._began = time.perf_counter()
        self._first: float | None = None

    def put(self, value: Tensor) -> None:
        """Take one step's tokens, (b,); the prompt has none, as it is embeddings."""
        if value.numel() == 0:
            return
        now = time.perf_counter()
        for answer, token in zip(self._answers, value.flatten().tolist(), strict=True):
            if answer.ended.is_set():
                continue
            if self._first is None:
                answer.facts = replace(answer.facts, num_rows=len(self._answers))
                answer.add(prefill=now - self._began)
            else:
                answer.add(tokens=now - self._first)
            answer.take(token)
        self._first = self._first or now

    def end(self) -> None:
        """Nothing: each answer ends for itself."""
