"""A conversation as files to keep: Markdown to read, JSON for programs, a heat map to look at."""

from __future__ import annotations

import io
import json
from typing import Any

from ppl.serving.overlays import heatmap_strip
from ppl.serving.page.exchanges import Exchange, Reply, Way
from ppl.serving.page.visit import Visit


def as_json(visit: Visit, model: str) -> bytes:
    """Write everything that is known of the conversation.

    Args:
        visit: Whose.
        model: Its name.

    Raises:
        ValueError: There is no clip yet.
    """
    clip = visit.opened()
    conversation = {
        "model": model,
        "clip": clip.name,
        "kind": clip.medium.ref.kind,
        "frame_times": list(clip.medium.decoded.times),
        "exchanges": [
            {"question": exchange.question, "answers": [_described(reply) for reply in exchange.replies]}
            for exchange in visit.exchanges
        ],
    }
    return (json.dumps(conversation, ensure_ascii=False, indent=2) + "\n").encode()


def as_markdown(visit: Visit, model: str) -> bytes:
    """Write the questions, the answers and what they took.

    Args:
        visit: Whose.
        model: Its name.

    Raises:
        ValueError: There is no clip yet.
    """
    clip = visit.opened()
    lines = [f"# {clip.name}", "", f"Model: {model}; {len(clip.medium.frames)} frame(s) looked at."]
    for number, exchange in enumerate(visit.exchanges, 1):
        lines += ["", f"## {number}. {exchange.question}"]
        for reply in exchange.replies:
            lines += ["", f"**{way_in_words(reply.way)}:** {reply.problem or reply.text.strip()}"]
            if reply.report is not None:
                stages = ", ".join(f"{stage} {took:.0f}" for stage, took in reply.report.milliseconds.items())
                lines += ["", f"{reply.report.num_visual_tokens} visual tokens; milliseconds: {stages}"]
    return ("\n".join(lines) + "\n").encode()


def as_heatmap(visit: Visit, exchange: Exchange | None) -> bytes:
    """Draw the relevance of the frames to a question, as PNG.

    Raises:
        ValueError: There is no clip, no question, or no relevance.
    """
    clip = visit.opened()
    if exchange is None or exchange.relevance is None:
        why = exchange.problem if exchange is not None else ""
        msg = why or "got no question to draw the relevance to, expected one; ask, or select one that was asked"
        raise ValueError(msg)
    file = io.BytesIO()
    heatmap_strip(clip.medium.frames, exchange.relevance, exchange.question).save(file, format="PNG")
    return file.getvalue()


def way_in_words(way: Way) -> str:
    """Name a way to pool."""
    pooler = way.pooler or "the model's own pooler"
    return pooler if way.budget is None else f"{pooler}, at most {way.budget} tokens"


def _described(reply: Reply) -> dict[str, Any]:
    described: dict[str, Any] = {
        "pooler": reply.way.pooler,
        "budget": reply.way.budget,
        "answer": reply.text.strip(),
        "problem": reply.problem or None,
    }
    if reply.report is not None:
        described |= {
            "finish": reply.report.finish,
            "visual_tokens": reply.report.num_visual_tokens,
            "prompt_tokens": reply.report.num_prompt_tokens,
            "answer_tokens": reply.report.num_tokens,
            "milliseconds": dict(reply.report.milliseconds),
        }
    return described
