"""What a client gets: OpenAI's shapes, and what the answer took beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ppl.serving.answers import Report

_FINISH = {"stop": "stop", "length": "length", "late": "length"}


@dataclass(frozen=True)
class Reply:
    """The frame of one answer.

    Args:
        id: Of the answer.
        model: As the client calls it.
        created: Seconds of Unix time.
    """

    id: str
    model: str
    created: int

    def whole(self, text: str, report: Report) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[report.finish]}
        return {
            **self._frame("chat.completion"),
            "choices": [choice],
            "usage": usage(report),
            "ppl": took(report),
        }

    def piece(self, delta: dict[str, str], report: Report | None = None) -> bytes:
        """One event of a stream; with a report, that after the last piece."""
        reason = None if report is None else _FINISH[report.finish]
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        further = {} if report is None else {"ppl": took(report)}
        return event({**self._frame("chat.completion.chunk"), "choices": [choice], **further})

    def usage_piece(self, report: Report) -> bytes:
        """The event that `stream_options.include_usage` asks for."""
        return event({**self._frame("chat.completion.chunk"), "choices": [], "usage": usage(report)})

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def event(body: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def usage(report: Report) -> dict[str, Any]:
    """Tokens; those of media are among the prompt's."""
    return {
        "prompt_tokens": report.num_prompt_tokens,
        "completion_tokens": report.num_tokens,
        "total_tokens": report.num_prompt_tokens + report.num_tokens,
        "prompt_tokens_details": {"visual_tokens": report.num_visual_tokens},
    }


def took(report: Report) -> dict[str, Any]:
    """How it ended and what it took."""
    return {
        "finish": report.finish,
        "milliseconds": dict(report.milliseconds),
        "answered_together": report.num_rows,
        "media_found": report.num_found,
    }
