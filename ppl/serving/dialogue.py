"""A conversation as its user sees it: what was chosen for it, and a row for each answer."""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

import torch

from ppl.datamodules.records import MediumRef, Turn
from ppl.modules.generation import Generation
from ppl.modules.poolers.base import Pooler
from ppl.serving.conversation import without_placeholders
from ppl.serving.encoded_media import EncodedMedium
from ppl.serving.session import ChatSession
from ppl.serving.variants import with_budget


class Dialogue:
    """A session and the rows of its answers, which ``--json`` prints and ``/save`` writes.

    Args:
        session: With the model's own pooler.
        generation: How to answer.
        model: Name of the checkpoint.
    """

    def __init__(self, session: ChatSession, generation: Generation, model: str) -> None:
        self.session = session
        self.generation = generation
        self.model = model
        self.rows: list[dict[str, Any]] = []
        """One for each answer of ``session.history`` that was given here."""
        self.pooler_name = type(session.model.pooler).__name__
        self.budget: int | None = None
        """Visual tokens of each medium at most; None: as the pooler has it."""
        self._pooler = session.model.pooler

    def ask(self, question: str) -> Generator[str, None, None]:
        """Answer word by word, as `ChatSession.ask`; the row of the answer is there when the iterator ends."""
        began = time.perf_counter()
        first: float | None = None
        answer = ""
        with closing(self.session.ask(question, self.generation)) as pieces:
            for piece in pieces:
                first = first or time.perf_counter()
                answer += piece
                yield piece
        ended = time.perf_counter()
        self.rows.append(
            {
                "question": without_placeholders(question),
                "answer": answer.strip(),
                "visual_tokens": self.session.num_visual_tokens,
                "prompt_tokens": self.session.num_prompt_tokens,
                "answer_tokens": self.session.num_answer_tokens,
                "milliseconds": {
                    "first_token": round(1000 * ((first or ended) - began), 1),
                    "answer": round(1000 * (ended - began), 1),
                },
                "pooler": self.pooler_name,
                "budget": self.budget,
                "media": [described(medium) for medium in self.session.media],
            }
        )

    def pool(self, pooler: Pooler, name: str) -> None:
        """Pool in another way from the next question on, within the same budget.

        Raises:
            ValueError: The model cannot pool so; then nothing changes.
        """
        self._switch(pooler, self.budget)
        self._pooler, self.pooler_name = pooler, name

    def limit(self, budget: int | None) -> None:
        """Pool to at most so many tokens of each medium; None: as the pooler has it.

        Raises:
            ValueError: The pooler has no budget; then nothing changes.
        """
        self._switch(self._pooler, budget)
        self.budget = budget

    def undo(self) -> str:
        """Forget the newest question and its answer, and give the question."""
        question = self.session.undo()
        del self.rows[-1:]
        return question

    def survive(self, error: torch.OutOfMemoryError) -> None:
        """Go on after an answer for which there was not enough memory, as if it had not been asked for."""
        traceback.clear_frames(error.__traceback__)  # they hold tensors
        self.session.free()

    def begin(self, turns: Sequence[Turn], refs: Sequence[MediumRef]) -> None:
        """Begin another conversation, as `ChatSession.begin`."""
        self.session.begin(turns, refs)
        self.rows.clear()

    def _switch(self, pooler: Pooler, budget: int | None) -> None:
        self.session.switch(pooler if budget is None else with_budget(pooler, budget))


def described(medium: EncodedMedium) -> dict[str, Any]:
    """Where a medium lies, and when its sampled frames appear, in seconds; an image has no times."""
    ref = medium.ref
    cut = {"start": ref.start, "end": ref.end}
    return {
        "path": ref.path,
        "kind": ref.kind,
        **{name: seconds for name, seconds in cut.items() if seconds is not None},
        "frames": [round(seconds, 3) for seconds in medium.decoded.times],
    }
