"""When an answer ends before its longest: at a stop string in its text, or because nobody waits for it any more.

Axes: b batch | k new tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Event
from typing import TypeAlias

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

Cancelled: TypeAlias = Event | Sequence[Event]
"""Set when nobody waits for an answer any more: one for all rows, or one for each."""

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What decoders make of bytes that are no whole character."""


def before_stop(text: str, stop_strings: Sequence[str]) -> str:
    """Cut a text where the stop string that is complete first begins."""
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stop_strings if stop in text]
    return text[: min(found)[1]] if found else text


def stopping(
    stop_strings: Sequence[str], tokenizer: PreTrainedTokenizerBase, cancelled: Cancelled | None
) -> StoppingCriteriaList:
    """What ends a row before its longest answer, beside end tokens.

    Args:
        stop_strings: A row ends after the tokens that complete one.
        tokenizer: Turns tokens into text.
        cancelled: Once set, all rows end after the step they are in, or the row whose event it is.
    """
    criteria = StoppingCriteriaList()
    if stop_strings:
        criteria.append(_StopText(StopSearch(tokenizer, stop_strings)))
    if cancelled is not None:
        criteria.append(_Cancelled(cancelled))
    return criteria


class StopSearch:
    """Finds a stop string in the last tokens of an answer, decoded, however it is cut into tokens.

    Transformers' own criterion first maps the whole vocabulary, which takes seconds for 150,000 tokens.

    Args:
        tokenizer: Turns tokens into text.
        stop_strings: What to look for; if there is none, nothing is found.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_strings: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.stop_strings = stop_strings
        # a token is one byte at least; one more, because decoders drop the first token's leading blank, and three
        # that may be the end of a character
        self.window = 4 + max((len(stop.encode()) for stop in stop_strings), default=0)

    def finds(self, tokens: list[int]) -> bool:
        """Whether a stop string is complete; asked after each token, as only the last ones are looked at."""
        return bool(self.stop_strings) and any(
            stop in tail for tail in self._tails(tokens[-self.window :]) for stop in self.stop_strings
        )

    def _tails(self, tokens: list[int]) -> Iterator[str]:
        """Decoded from the first token, and if that may be inside a character, from those after it."""
        for start in range(4):
            tail = str(self.tokenizer.decode(tokens[start:], skip_special_tokens=True))
            yield tail
            if INCOMPLETE not in tail:
                return


class _StopText(StoppingCriteria):
    """A row is done once its last tokens hold a stop string."""

    def __init__(self, search: StopSearch) -> None:
        self.search = search

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  `BoolTensor` is no type of ours
        self, input_ids: Int64[Tensor, "b k"], scores: object, **_: object
    ) -> Bool[Tensor, " b"]:
        rows = input_ids[:, -self.search.window :].tolist()
        return torch.tensor([self.search.finds(row) for row in rows], device=input_ids.device)


class _Cancelled(StoppingCriteria):
    def __init__(self, cancelled: Cancelled) -> None:
        self.cancelled = cancelled

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  `BoolTensor` is no type of ours
        self, input_ids: Int64[Tensor, "b k"], scores: object, **_: object
    ) -> Bool[Tensor, " b"]:
        rows = [self.cancelled] * len(input_ids) if isinstance(self.cancelled, Event) else self.cancelled
        assert len(rows) == len(input_ids), "one event for each row"
        return torch.tensor([event.is_set() for event in rows], device=input_ids.device)
