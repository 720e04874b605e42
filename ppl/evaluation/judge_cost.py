"""What judging will take, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ppl.evaluation.http_judge import HttpJudge
from ppl.evaluation.judge import Request

BYTES_PER_TOKEN = 4
"""Of UTF-8, rounded up for each prompt: what English takes with GPT's tokenizers, within a fifth or so."""


class Estimate(NamedTuple):
    """Requests and tokens."""

    requests: int
    """All that the marks need."""
    cached: int
    """Of them those whose replies are kept, or that come more than once: they are not sent."""
    prompt_tokens: int
    """Of what is sent, by `BYTES_PER_TOKEN`."""
    reply_tokens: int
    """At most: as many as each reply may have."""

    @property
    def sent(self) -> int:
        """Requests that are sent; those that fail are sent again, on top of this."""
        return self.requests - self.cached

    def cost(self, prompt_price: float, reply_price: float) -> float:
        """At most, with prices of a million tokens."""
        return (self.prompt_tokens * prompt_price + self.reply_tokens * reply_price) / 1e6


def estimate(requests: Sequence[Request], judge: HttpJudge) -> Estimate:
    """Count what a judge would be sent."""
    sent = [request for request in dict.fromkeys(requests) if judge.cached(request) is None]
    sizes = [len(text.encode()) for request in sent for text in (request.system, request.user)]
    return Estimate(
        requests=len(requests),
        cached=len(requests) - len(sent),
        prompt_tokens=sum(-(-size // BYTES_PER_TOKEN) for size in sizes),
        reply_tokens=sum(request.max_tokens for request in sent),
    )
