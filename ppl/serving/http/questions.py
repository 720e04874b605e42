"""From a request to a question for the engine."""

from __future__ import annotations

from ppl.datamodules.records import PLACEHOLDER, Record, Turn, check_record
from ppl.modules.generation import Generation
from ppl.serving.answering import Question
from ppl.serving.http.errors import ApiError, told
from ppl.serving.http.media import Media, MediaIntake
from ppl.serving.http.schemas import ChatRequest, ImagePart, Text, VideoPart
from ppl.serving.http.serving import Serving

_DEFAULT_TOKENS = 128


def check_caps(serving: Serving, chat: ChatRequest) -> None:
    """Keep the limits that show before any medium is looked at.

    Raises:
        ApiError: The request is beyond one, or contradicts itself.
    """
    caps = serving.settings.caps
    if chat.max_tokens is not None and chat.max_completion_tokens not in (None, chat.max_tokens):
        raise ApiError(400, "got both max_tokens and max_completion_tokens; leave one of them out", "max_tokens")
    if chat.stream_options.include_usage and not chat.stream:
        raise ApiError(400, "got stream_options without stream; leave them out, or set stream", "stream_options")
    parts = [(message, part) for message in chat.messages for part in message.content]
    for message, part in parts:
        if message.role != "user" and not isinstance(part, Text):
            raise ApiError(400, f"got a medium in a message of the {message.role}, expected text; move it", "messages")
    kinds = [part.type for _, part in parts if not isinstance(part, Text)]
    frames_each = chat.num_frames or serving.engine.processor.num_frames
    asked = {
        "media": (len(kinds), caps.media, "messages"),
        "sampled frames": (sum(frames_each if kind == "video_url" else 1 for kind in kinds), caps.frames, "num_frames"),
        "tokens of an answer": (_max_tokens(chat, caps.tokens), caps.tokens, "max_tokens"),
        "characters": (sum(len(part.text) for _, part in parts if isinstance(part, Text)), caps.text, "messages"),
    }
    for what, (got, most, param) in asked.items():
        if got > most:
            raise ApiError(400, f"got {got} {what}, expected at most {most}; ask for less", param)


async def take_media(intake: MediaIntake, chat: ChatRequest, media: Media) -> None:
    """Take in the media of a conversation, one after the other.

    Raises:
        ApiError: One of them cannot be.
    """
    for number, message in enumerate(chat.messages):
        for position, part in enumerate(message.content):
            name = f"messages.{number}.content.{position}"
            if isinstance(part, ImagePart):
                await intake.take(media, "image", part.image_url.url, name, chat.num_frames)
            elif isinstance(part, VideoPart):
                await intake.take(media, "video", part.video_url.url, name, chat.num_frames)


def question_of(serving: Serving, chat: ChatRequest, pooler: str | None, media: Media) -> Question:
    """Make a question of a request; parts of a message stand on lines of their own, as in training.

    Raises:
        ApiError: The conversation is no such, or the settings of its answer do not go together.
    """
    caps = serving.settings.caps
    turns = [
        Turn(
            "system" if message.role == "developer" else message.role,
            "\n".join(part.text if isinstance(part, Text) else PLACEHOLDER for part in message.content),
        )
        for message in chat.messages
    ]
    try:
        check_record(Record("chat", turns, media.refs, origin="messages"))
        generation = Generation(
            max_new_tokens=_max_tokens(chat, caps.tokens),
            temperature=chat.temperature,
            top_p=chat.top_p,
            top_k=chat.top_k,
            repetition_penalty=chat.repetition_penalty,
            seed=chat.seed,
            stop_strings=tuple(chat.stop),
        )
    except ValueError as error:
        raise told(error, media.names) from None
    return Question(tuple(turns), tuple(media.refs), generation, chat.policy, pooler, chat.token_budget, caps.seconds)


def _max_tokens(chat: ChatRequest, most: int) -> int:
    return chat.max_completion_tokens or chat.max_tokens or min(_DEFAULT_TOKENS, most)
