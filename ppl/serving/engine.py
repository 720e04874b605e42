"""One thread that runs a model for many who ask: questions wait in line, and like ones are answered together.

Axes: b l rows, positions | d language channels.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Condition, Thread
from typing import Any, TypeVar

from ppl.datamodules.processing import Processor
from ppl.datamodules.records import MediumRef
from ppl.modules.poolers.base import Pooler
from ppl.modules.video_llm import VideoLLM
from ppl.serving.answering import Asked, Question, answer_together
from ppl.serving.answers import Answer
from ppl.serving.encoded_media import EncodedMedia, EncodedMedium, Keeping, MediaEncoder
from ppl.serving.variants import for_model, with_budget, with_pooler

Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """How much an engine takes on.

    Args:
        max_waiting: Questions that wait or are being answered; further ones are refused.
        max_rows: Questions that are answered together.
        wait_ms: How long a question that could start waits for others to be answered with it.
        num_readers: Threads that decode media.
    """

    max_waiting: int = 64
    max_rows: int = 8
    wait_ms: float = 5.0
    num_readers: int = 2

    def __post_init__(self) -> None:
        for name in ("max_waiting", "max_rows", "num_readers"):
            if getattr(self, name) < 1:
                msg = f"got {name}={getattr(self, name)}, expected at least 1"
                raise ValueError(msg)


class FullError(Exception):
    """As many questions wait as may, or the engine is closing."""


class Engine:
    """Answers questions from any thread.

    Args:
        model: In evaluation mode; from now on only the engine's thread runs it.
        processor: Reads media and renders conversations as in training.
        poolers: Other ways to pool, by the name that questions call them by.
        keeping: How long encoded media are kept.
        limits: How much it takes on.
    """

    def __init__(
        self,
        model: VideoLLM,
        processor: Processor,
        poolers: Mapping[str, Pooler] | None = None,
        keeping: Keeping = Keeping(),  # noqa: B008  frozen
        limits: Limits = Limits(),
    ) -> None:
        self.model = model
        self.processor = processor
        self.poolers = dict(poolers or {})
        self.limits = limits
        self.media = MediaEncoder(model, processor, EncodedMedia(keeping))
        self._open: set[Answer] = set()
        self._line: deque[Asked | Callable[[], None]] = deque()
        self._changed = Condition()
        self._closing = False
        self._readers = ThreadPoolExecutor(limits.num_readers, "reader")
        self._thread = Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def ask(self, question: Question) -> Answer:
        """Put a question in line.

        Raises:
            FullError: The line is full, or the engine is closing.
            ValueError: There is no such pooler, it has no budget, or the answer is to have several beams.
        """
        model, processor = self.variant(question.pooler, question.budget)
        if question.generation.num_beams > 1:
            msg = f"got num_beams={question.generation.num_beams}, expected 1: beams are not known as they come"
            raise ValueError(msg)
        generation = question.generation.with_stops(processor.template.stop_strings)
        answer = Answer(
            model.backbone.tokenizer,
            generation.stop_strings,
            generation.max_new_tokens,
            time.monotonic() + question.seconds,
        )
        asked = Asked(replace(question, generation=generation), answer, model, processor)
        with self._changed:
            if self._closing or len(self._open) >= self.limits.max_waiting:
                raise FullError
            self._open.add(answer)
        answer.report.add_done_callback(lambda _: self._leave(answer))
        self._readers.submit(self._read, asked)
        return answer

    def watch(self, ref: MediumRef) -> Future[EncodedMedium]:
        """Read and encode a medium; in the line of questions."""
        found = self._readers.submit(self.media.prepare, [ref])
        result: Future[EncodedMedium] = Future()

        def encode() -> None:
            _settle(result, lambda: self.media.encode(found.result())[0])

        found.add_done_callback(lambda _: self._enter(encode))
        return result

    def run(self, call: Callable[[VideoLLM], Result]) -> Future[Result]:
        """Do something with the model between two batches of questions."""
        result: Future[Result] = Future()
        self._enter(lambda: _settle(result, lambda: call(self.model)))
        return result

    def variant(self, pooler: str | None, budget: int | None) -> tuple[VideoLLM, Processor]:
        """The model under another pooler.

        Raises:
            ValueError: There is no such pooler, or it has no budget.
        """
        if pooler is not None and pooler not in self.poolers:
            msg = f"got pooler {pooler!r}, expected one of {', '.join(self.poolers) or 'none: this model has but one'}"
            raise ValueError(msg)
        if pooler is None and budget is None:
            return self.model, self.processor
        chosen = self.model.pooler if pooler is None else self.poolers[pooler]
        model = with_pooler(self.model, chosen if budget is None else with_budget(chosen, budget))
        return model, for_model(self.processor, model)

    @property
    def num_open(self) -> int:
        """Questions that wait or are being answered."""
        return len(self._open)

    def close(self, seconds: float = 30.0) -> None:
        """Take nothing more, answer for so long what is in line, cancel the rest, and end the threads."""
        with self._changed:
            self._closing = True
            self._changed.wait_for(lambda: not self._open, seconds)
            left = list(self._open)
        for answer in left:
            answer.cancel()
        self._readers.shutdown()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()

    def _read(self, asked: Asked) -> None:
        """In a reader's thread: find or decode the media, then stand in line for the model."""
        try:
            start = time.perf_counter()
            asked.media = self.media.prepare(asked.question.media) if asked.answer.start() else ()
        except Exception as error:  # whatever it is belongs to whoever asked
            asked.answer.fail(error)
        else:
            asked.queued = time.perf_counter()
            asked.answer.add(decode=asked.queued - start)
            self._enter(asked)

    def _enter(self, job: Asked | Callable[[], None]) -> None:
        with self._changed:
            self._line.append(job)
            self._changed.notify_all()

    def _leave(self, answer: Answer) -> None:
        with self._changed:
            self._open.discard(answer)
            self._changed.notify_all()

    def _run(self) -> None:
        while (jobs := self._next()) is not None:
            if isinstance(jobs, list):
                answer_together(self.media, jobs)
            else:
                jobs()

    def _next(self) -> list[Asked] | Callable[[], None] | None:
        """What to do next; None: nothing any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._line or (self._closing and not self._open))
            if not self._line:
                return None
            first = self._line.popleft()
            if not isinstance(first, Asked):
                return first
            if len(self._line) + 1 < self.limits.max_rows:
                self._changed.wait_for(lambda: len(self._line) + 1 >= self.limits.max_rows, self.limits.wait_ms / 1000)
            alike = [job for job in self._line if isinstance(job, Asked) and job.goes_with(first)]
            alike = alike[: self.limits.max_rows - 1]
            for job in alike:
                self._line.remove(job)
            return [first, *alike]


def _settle(result: Future[Any], call: Callable[[], Any]) -> None:
    try:
        result.set_result(call())
    except BaseException as error:
        result.set_exception(error)
