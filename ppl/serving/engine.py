"""One thread that runs a model for many who ask: questions wait in line, and like ones are answered together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Thread
from typing import TypeVar

from ppl.datamodules.processing import Processor
from ppl.datamodules.records import MediumRef
from ppl.modules.poolers.base import Pooler
from ppl.modules.video_llm import VideoLLM
from ppl.serving.answering import Asked, Question, answer_together
from ppl.serving.answers import Answer
from ppl.serving.encoded_media import EncodedMedia, EncodedMedium, Keeping
from ppl.serving.line import Call, Limits, Line
from ppl.serving.media_encoder import MediaEncoder, Prepared
from ppl.serving.variants import for_model, with_budget, with_pooler

Result = TypeVar("Result")

_IDLE = 60.0
"""Seconds after which an engine without work looks for media that were kept long enough."""


class Engine:
    """Answers questions from any thread.

    A batch of questions is answered to its end before the next begins; those that come meanwhile wait. To let them join
    would take keys and values that are kept page by page: transformers' ``generate_batch`` has them, but for prompts of
    token ids alone, and without a streamer or stopping criteria.

    Args:
        model: In evaluation mode; from now on only the engine's thread runs it.
        processor: Reads media and renders conversations as in training.
        poolers: Other ways to pool, by the name that questions call them by.
        keeping: How long encoded media are kept.
        limits: How much it takes on.

    Raises:
        ValueError: The model cannot pool in one of these ways.
    """

    def __init__(
        self,
        model: VideoLLM,
        processor: Processor,
        poolers: Mapping[str, Pooler] | None = None,
        keeping: Keeping = Keeping(),  # noqa: B008  frozen
        limits: Limits = Limits(),  # noqa: B008  frozen
    ) -> None:
        self.model = model
        self.processor = processor
        self.poolers = dict(poolers or {})
        self.limits = limits
        self.media = MediaEncoder(model, processor, EncodedMedia(keeping))
        self._variants: dict[str | None, VideoLLM] = {None: model}
        self._variants |= {name: with_pooler(model, pooler) for name, pooler in self.poolers.items()}
        self._line = Line(limits)
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
        self._line.take_on(answer, lambda: self._readers.submit(self._read, asked))
        return answer

    def watch(self, ref: MediumRef) -> Future[EncodedMedium]:
        """Read and encode a medium; in the line of questions.

        Raises:
            FullError: The line is full, or the engine is closing.
        """
        found: Future[list[EncodedMedium | Prepared]] = Future()
        call = Call(lambda: self.media.encode(found.result())[0])

        def read() -> None:
            self._line.wait_for_room()
            try:
                found.set_result(self.media.prepare([ref]))
            except BaseException as error:  # belongs to whoever watches
                found.set_exception(error)
            self._line.enter(call)

        self._line.take_on(call, lambda: self._readers.submit(read))
        return call.report

    def run(self, call: Callable[[VideoLLM], Result]) -> Future[Result]:
        """Do something with the model between two batches of questions.

        Raises:
            FullError: The line is full, or the engine is closing.
        """
        job = Call(lambda: call(self.model))
        self._line.take_on(job, lambda: self._line.enter(job))
        return job.report

    def variant(self, pooler: str | None, budget: int | None) -> tuple[VideoLLM, Processor]:
        """The model under another pooler.

        Raises:
            ValueError: There is no such pooler, or it has no budget.
        """
        if pooler not in self._variants:
            msg = f"got pooler {pooler!r}, expected one of {', '.join(self.poolers) or 'none: this model has but one'}"
            raise ValueError(msg)
        model = self._variants[pooler]
        if budget is not None:
            model = with_pooler(model, with_budget(model.pooler, budget))
        return model, self.processor if model is self.model else for_model(self.processor, model)

    @property
    def num_open(self) -> int:
        """Questions, media to watch and calls that wait or are in work."""
        return self._line.num_open

    @property
    def is_closing(self) -> bool:
        """Whether it takes nothing more on, because it was told so or its thread has died."""
        return self._line.is_closing

    def close(self, seconds: float = 30.0) -> None:
        """Take nothing more on, answer for so long what is in line, cancel the rest, and end the threads.

        What a thread is in the midst of, decoding a medium or a step of the model, it ends first.
        """
        self._line.close(seconds)
        self._readers.shutdown(cancel_futures=True)
        self._thread.join()

    def _read(self, asked: Asked) -> None:
        """In a reader's thread: find or decode the media, then stand in line for the model."""
        self._line.wait_for_room()
        start = time.perf_counter()
        try:
            asked.media = self.media.prepare(asked.question.media) if asked.answer.is_wanted() else ()
        except BaseException as error:  # whatever it is belongs to whoever asked
            asked.answer.fail(error)
        else:
            asked.answer.add(decode=time.perf_counter() - start)
            self._line.enter(asked)

    def _run(self) -> None:
        try:
            while True:
                while not self._line.wait(_IDLE):
                    self.media.kept.drop_old()
                jobs = self._line.next()
                if jobs is None:
                    return
                if isinstance(jobs, list):
                    answer_together(self.media, jobs)
                else:
                    jobs()
                del jobs  # with what they hold, before waiting for the next
        except BaseException as error:  # a fault of ours: nobody is to wait for a thread that is gone
            self._line.fail(error)
            raise
