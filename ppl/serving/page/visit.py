"""One visitor's clip and questions, and what became of them; knows nothing of the page that shows them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from ppl.datamodules.records import PLACEHOLDER, MediumRef, Turn
from ppl.modules.generation import Generation
from ppl.serving.answering import Question
from ppl.serving.answers import Answer
from ppl.serving.encoded_media import EncodedMedium
from ppl.serving.engine import Engine
from ppl.serving.frame_relevance import frame_relevance
from ppl.serving.http.probing import check_medium
from ppl.serving.http.settings import Caps
from ppl.serving.http.store import Store
from ppl.serving.page.exchanges import Clip, Exchange, Reply, Way, pieces_of
from ppl.serving.page.problems import in_words
from ppl.serving.session import relevance_of

Result = TypeVar("Result")

_LONGEST = 128
"""Tokens of an answer, where the caps allow more."""


class Visit:
    """A conversation about a clip, which is removed from disk when nobody refers to the visit any more.

    Args:
        engine: Answers.
        store: Keeps the clip meanwhile.
        caps: What a clip may be, how long an answer may get, and how long it may take.
    """

    def __init__(self, engine: Engine, store: Store, caps: Caps) -> None:
        self.engine = engine
        self.caps = caps
        self.clip: Clip | None = None
        self.exchanges: list[Exchange] = []
        self._generation = Generation(max_new_tokens=min(_LONGEST, caps.tokens))
        self._store = store
        self._open: set[Answer] = set()
        self._names: dict[str, str] = {}
        self._forget: Callable[[], object] = lambda: None

    def open(self, path: str | Path) -> Clip:
        """Read and encode a clip, and begin a new conversation about it.

        Raises:
            ApiError: It is neither a video nor an image, or too large.
            FullStoreError: There is no room for it.
            FileNotFoundError: It is gone.
        """
        self.stop()
        name = Path(path).name
        with Path(path).open("rb") as content:
            stored = self._store.keep(content)
        self._names[str(stored.path)] = name
        try:
            kind = check_medium(self.engine.processor.decoder, None, stored.path, name, self.caps)
            watched = self.engine.watch(MediumRef(kind, str(stored.path)))
            medium = _within(self.caps.seconds, watched)
        except BaseException:
            self._store.let_go(stored)
            raise
        self._forget()
        self._forget = weakref.finalize(self, self._store.let_go, stored)
        self.clip, self.exchanges = Clip(name, medium), []
        return self.clip

    def explain(self, error: BaseException) -> str:
        """Say what a visitor may know of an error."""
        return in_words(error, self._names)

    def start_again(self) -> None:
        """Begin a new conversation about the same clip."""
        self.stop()
        self.exchanges = []

    def stop(self) -> None:
        """End the answers that are on their way."""
        for answer in list(self._open):
            answer.cancel()

    def num_tokens(self, way: Way) -> int:
        """Visual tokens of the clip.

        Raises:
            ValueError: There is no clip, no such pooler, or it has no budget.
        """
        model, _ = self.engine.variant(way.pooler, way.budget)
        return model.num_visual_tokens(self.opened().medium.info)

    def ask(self, text: str, ways: Sequence[Way]) -> Iterator[Exchange]:
        """Ask once for each way to pool; gives the same exchange again and again as it grows.

        Closing the iterator ends the answers.

        Raises:
            ValueError: There is no clip, or no question.
            FullError: The line is full; nothing was asked.
        """
        clip, question = self.opened(), " ".join(text.split())
        if not question:
            msg = "got an empty question, expected some words; write one"
            raise ValueError(msg)
        turns = self._turns(question)
        relevance = self._relevance(clip.medium, question)
        exchange = Exchange(question, [Reply(way) for way in ways])
        self.exchanges.append(exchange)
        answers = self._asked(exchange, clip, turns)
        self._open |= set(answers.values())
        try:
            self._score(exchange, relevance)
            yield exchange
            for index, piece in pieces_of(answers):
                exchange.replies[index].extend(piece, self.explain)
                yield exchange
        finally:
            for answer in answers.values():
                answer.cancel()
            self._open -= set(answers.values())

    def opened(self) -> Clip:
        """The clip.

        Raises:
            ValueError: There is none.
        """
        if self.clip is None:
            msg = "got no clip, expected one to ask about; drop a video or an image, or pick an example"
            raise ValueError(msg)
        return self.clip

    def _turns(self, question: str) -> tuple[Turn, ...]:
        turns: list[Turn] = []
        for told in self.exchanges:
            if told.replies[0].text.strip():
                turns += [Turn("user", told.question), Turn("assistant", told.replies[0].text.strip())]
        turns.append(Turn("user", question))
        return (Turn("user", f"{PLACEHOLDER}\n{turns[0].text}"), *turns[1:])

    def _asked(self, exchange: Exchange, clip: Clip, turns: tuple[Turn, ...]) -> dict[int, Answer]:
        answers = {}
        for index, reply in enumerate(exchange.replies):
            question = Question(
                turns,
                (clip.medium.ref,),
                self._generation,
                pooler=reply.way.pooler,
                budget=reply.way.budget,
                seconds=self.caps.seconds,
            )
            try:
                answers[index] = self.engine.ask(question)
            except Exception as error:  # that of one side is shown there, and the other goes on
                reply.problem = self.explain(error)
        return answers

    def _relevance(self, medium: EncodedMedium, question: str) -> Future[Tensor]:
        inputs = self.engine.processor.inputs
        return self.engine.run(
            lambda model: frame_relevance(relevance_of(model, medium, question), medium.info, inputs)
        )

    def _score(self, exchange: Exchange, relevance: Future[Tensor]) -> None:
        try:
            exchange.relevance = _within(self.caps.seconds, relevance)
        except Exception as error:  # the answer may do without
            exchange.problem = self.explain(error)


def _within(seconds: float, future: Future[Result]) -> Result:
    """Wait for so long, and then leave the line.

    Raises:
        TimeoutError: It took longer.
    """
    try:
        return future.result(seconds)
    except TimeoutError:
        future.cancel()
        raise
