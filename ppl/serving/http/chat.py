"""``POST /v1/chat/completions``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from secrets import token_hex

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive

from ppl.serving.answering import Question
from ppl.serving.answers import Answer, Report
from ppl.serving.http.errors import ApiError, told
from ppl.serving.http.event_stream import EventStream
from ppl.serving.http.media import Media
from ppl.serving.http.questions import check_caps, question_of, take_media
from ppl.serving.http.replies import DONE, Reply, event
from ppl.serving.http.schemas import ChatRequest, parse_chat
from ppl.serving.http.serving import Serving
from ppl.serving.line import FullError


async def chat_completions(serving: Serving, request: Request) -> Response:
    """Answer a conversation.

    Raises:
        ApiError: The request is refused, or cannot be answered.
    """
    serving.check_taking()
    loop, media = asyncio.get_running_loop(), Media(serving.store)
    async with serving.bodies.limited(request) as limited:
        body = await serving.bodies.json(limited)
        chat = await loop.run_in_executor(serving.intake_threads, parse_chat, body)
        try:
            answer = await _asked(serving, chat, media)
        except BaseException:
            media.let_go()
            raise
        del body, limited  # which may be large, as are data URLs
        chat.messages.clear()
    answer.report.add_done_callback(lambda _: media.let_go())
    answer.report.add_done_callback(lambda done: None if done.exception() else serving.metrics.count(done.result()))
    watch = asyncio.create_task(_cancel_when_gone(answer, request.receive))
    try:
        return await _answered(serving, chat, answer, media, watch)
    except BaseException:
        watch.cancel()
        answer.cancel()
        raise


async def _asked(serving: Serving, chat: ChatRequest, media: Media) -> Answer:
    """Check, take in the media, and put the question in line."""
    pooler = _pooler(serving, chat)
    check_caps(serving, chat)
    await take_media(serving.intake, chat, media)
    question: Question = question_of(serving, chat, pooler, media)
    serving.check_taking()
    try:
        return serving.engine.ask(question)
    except FullError as error:
        serving.check_taking()
        raise ApiError(
            429, "got more questions than wait; try again", code="rate_limit_exceeded", retry_after=1
        ) from error
    except ValueError as error:
        raise told(error, media.names) from None


def _pooler(serving: Serving, chat: ChatRequest) -> str | None:
    models = serving.models
    if chat.model not in models:
        msg = f"got model {chat.model[:80]!r}, expected one of {', '.join(models)}; see /v1/models"
        raise ApiError(404, msg, "model", "model_not_found")
    named = models[chat.model]
    if chat.pooler is not None and named is not None and chat.pooler != named:
        raise ApiError(400, f"got pooler {chat.pooler[:80]!r} of model {chat.model!r}; leave one of them out", "pooler")
    if chat.pooler is not None and chat.pooler not in serving.engine.poolers:
        offered = ", ".join(serving.engine.poolers) or "none: the model has but its own"
        raise ApiError(400, f"got pooler {chat.pooler[:80]!r}, expected one of {offered}; change it", "pooler")
    return chat.pooler or named


async def _cancel_when_gone(answer: Answer, receive: Receive) -> None:
    """Free the slot of an answer that nobody waits for any more."""
    while (await receive())["type"] != "http.disconnect":
        pass
    answer.cancel()


async def _answered(
    serving: Serving, chat: ChatRequest, answer: Answer, media: Media, watch: asyncio.Task[None]
) -> Response:
    """Wait for the first piece, as what goes wrong does so before it, then for the others or hand them on."""
    reply = Reply(f"chatcmpl-{token_hex(12)}", chat.model, int(time.time()))
    pieces = _pieces(serving, answer)
    try:
        text = await anext(pieces, "")
        if not chat.stream:
            text += "".join([piece async for piece in pieces])
    except Exception as error:
        raise told(error, media.names) from None
    report = _report(answer) if answer.report.done() else None
    if chat.stream:
        events = _events(reply, text, pieces, answer, chat, media)
        return EventStream(events, serving.settings.stall_seconds, partial(_end, answer, watch))
    watch.cancel()
    assert report is not None, "it has no more pieces"
    return JSONResponse(reply.whole(text, report))


def _end(answer: Answer, watch: asyncio.Task[None]) -> None:
    watch.cancel()
    answer.cancel()


def _report(answer: Answer) -> Report:
    """What it took.

    Raises:
        ApiError: There is no answer.
    """
    report = answer.report.result()
    if report.finish == "cancelled":
        raise ApiError(503, "the server is ending, and the answer was not ready; ask another one", retry_after=5)
    if report.finish == "late" and report.num_tokens == 0:
        raise ApiError(503, "the answer was not begun in time; try again", code="timeout", retry_after=5)
    return report


async def _pieces(serving: Serving, answer: Answer) -> AsyncIterator[str]:
    """The text of an answer, as it comes."""
    loop, pieces = asyncio.get_running_loop(), iter(answer)
    while (piece := await loop.run_in_executor(serving.answer_threads, next, pieces, None)) is not None:
        yield piece


async def _events(
    reply: Reply, first: str, pieces: AsyncIterator[str], answer: Answer, chat: ChatRequest, media: Media
) -> AsyncIterator[bytes]:
    yield reply.piece({"role": "assistant", "content": ""})
    if first:
        yield reply.piece({"content": first})
    try:
        async for piece in pieces:
            yield reply.piece({"content": piece})
        report = _report(answer)
    except Exception as error:
        known = told(error, media.names)
        if not isinstance(known, ApiError):
            raise  # a fault of ours: the connection is broken off, and the log tells why
        yield event(known.body)
        return
    yield reply.piece({}, report)
    if chat.stream_options.include_usage:
        yield reply.usage_piece(report)
    yield DONE
