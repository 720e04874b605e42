"""Visits as HTML: frames with relevance laid over them, and answers beside each other with what they took.

Pictures are part of the HTML, so that no file of one visitor is where another could fetch it. Whatever visitors or
models wrote is escaped.

Axes: t h w frames, rows, columns of cells.
"""

from __future__ import annotations

import base64
import io
from html import escape

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ppl.serving.answers import Report
from ppl.serving.overlays import overlay
from ppl.serving.page.exchanges import Clip, Exchange, Reply
from ppl.serving.page.transcript import way_in_words

_HEIGHT = 240
"""Of a frame, in pixels, at most."""
_STAGES = {
    "decode": "decode",
    "queue": "wait",
    "encode": "vision tower",
    "pool": "pooling",
    "prefill": "read prompt",
    "tokens": "write answer",
}
_ENDINGS = {"length": "cut off at its longest", "cancelled": "stopped", "late": "out of time"}


def frames_html(clip: Clip | None, exchange: Exchange | None) -> str:
    """Show the sampled frames, with relevance to a question laid over them if there is one."""
    if clip is None:
        return '<p class="empty">The frames that the model looks at will appear here.</p>'
    relevance = None if exchange is None else exchange.relevance
    frames = clip.medium.frames
    pictures = frames.permute(0, 2, 3, 1).numpy() if relevance is None else overlay(frames, relevance)
    figures = []
    for index, pixels in enumerate(pictures):
        told = _frame_in_words(clip, index, relevance)
        picture = jpeg_url(Image.fromarray(pixels))
        figures.append(
            f'<figure><img src="{picture}" alt="{escape(told)}"><figcaption>{escape(told)}</figcaption></figure>'
        )
    caption = f"{clip.name}: {len(frames)} frame(s), {frames.shape[3]} × {frames.shape[2]} pixels"
    note = _relevance_in_words(exchange)
    return f'<p class="caption">{escape(caption)}</p><div class="frames">{"".join(figures)}</div>{note}'


def conversation_html(exchanges: list[Exchange]) -> str:
    """Show questions and answers, the newest last, its numbers open."""
    if not exchanges:
        return '<p class="empty">Answers will appear here, each with its tokens and the time of each stage.</p>'
    return "".join(_exchange_html(exchange, exchange is exchanges[-1]) for exchange in exchanges)


def _exchange_html(exchange: Exchange, is_newest: bool) -> str:
    replies = "".join(_reply_html(reply, is_newest) for reply in exchange.replies)
    return (
        f'<section class="exchange"><h3>{escape(exchange.question)}</h3>'
        f'<div class="replies replies-{len(exchange.replies)}">{replies}</div></section>'
    )


def _reply_html(reply: Reply, is_newest: bool) -> str:
    way = f'<p class="way">{escape(way_in_words(reply.way))}</p>'
    if reply.problem:
        return f'<article>{way}<p class="problem">{escape(reply.problem)}</p></article>'
    ending = "" if reply.report is None else _ENDINGS.get(reply.report.finish, "")
    waits = reply.report is None
    text = escape(reply.text.strip()) or ("…" if waits else "(no words)")
    note = f' <span class="ending">({ending})</span>' if ending else ""
    answer = f'<p class="answer" aria-busy="{str(waits).lower()}">{text}{note}</p>'
    numbers = "" if reply.report is None else _numbers_html(reply.report, is_newest)
    return f"<article>{way}{answer}{numbers}</article>"


def _numbers_html(report: Report, is_open: bool) -> str:
    """A table: tokens, then milliseconds by stage."""
    total = sum(report.milliseconds.values())
    rows = [("visual tokens", str(report.num_visual_tokens)), ("answer tokens", str(report.num_tokens))]
    rows += [(words, f"{report.milliseconds.get(stage, 0.0):.1f} ms") for stage, words in _STAGES.items()]
    rows += [("in all", f"{total:.1f} ms")]
    told = "".join(f"<tr><th scope='row'>{name}</th><td>{value}</td></tr>" for name, value in rows)
    summary = f"{report.num_visual_tokens} visual tokens, {total:.0f} ms"
    return f"<details{' open' * is_open}><summary>{summary}</summary><table>{told}</table></details>"


def _frame_in_words(clip: Clip, index: int, relevance: Float[Tensor, "t h w"] | None) -> str:
    times = clip.medium.decoded.times
    told = [f"{index + 1}"]
    if times:
        told.append(f"{times[index]:.1f} s")
    if relevance is not None:
        told.append(f"{100 * float(relevance[index].sum() / relevance.sum()):.0f} %")
    return " · ".join(told)


def _relevance_in_words(exchange: Exchange | None) -> str:
    if exchange is None:
        return ""
    if exchange.relevance is None:
        return f'<p class="note">No relevance: {escape(exchange.problem)}</p>' if exchange.problem else ""
    told = "Bright: relevant to the question. Per cent: each frame's share of all relevance."
    return f'<p class="note">{told}</p>'


def jpeg_url(picture: Image.Image) -> str:
    """Write a picture as a URL that needs no server; a large one smaller."""
    picture.thumbnail((4 * _HEIGHT, _HEIGHT))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=88)
    return as_data_url(file.getvalue(), "image/jpeg")


def as_data_url(content: bytes, kind: str) -> str:
    """Write a file as a URL that needs no server."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
