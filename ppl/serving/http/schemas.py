"""What a request for a chat completion may say; whatever is not understood is refused, not ignored."""

from __future__ import annotations

import json
import re
import reprlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, field_validator

from ppl.serving.http.errors import ApiError

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
}
"""Fields of OpenAI's that this server does without, and the values that ask for nothing."""
_MOST_COMMAS = 100_000
"""Between values, or in texts: a value takes hundreds of times the memory of the two bytes that it is written in."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Text(_Strict):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Url(_Strict):
    """Where a medium is: ``data:``, ``file://``, ``http(s)://``, or an upload's id."""

    url: str
    detail: Literal["auto"] = "auto"


class ImagePart(_Strict):
    """A part of a message."""

    type: Literal["image_url"]
    image_url: Url


class VideoPart(_Strict):
    """A part of a message."""

    type: Literal["video_url"]
    video_url: Url


Part = Annotated[Text | ImagePart | VideoPart, Field(discriminator="type")]


class Message(_Strict):
    """A turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], FailFast()]

    @field_validator("content", mode="before")
    @classmethod
    def _text_is_a_part(cls, content: object) -> object:
        return [{"type": "text", "text": content}] if isinstance(content, str) else content


class StreamOptions(_Strict):
    """How to stream."""

    include_usage: bool = False


class ChatRequest(_Strict):
    """The body of ``POST /v1/chat/completions``: OpenAI's fields, then ours, then those that change nothing."""

    model: str
    messages: Annotated[list[Message], FailFast()] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: list[str] = Field(default=[], max_length=4)

    pooler: str | None = None
    token_budget: int | None = Field(default=None, ge=1)
    policy: Literal["per-turn", "first-turn", "union"] = "per-turn"
    num_frames: int | None = Field(default=None, ge=1)
    top_k: int = Field(default=0, ge=0, lt=2**31)
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)

    user: str = ""
    metadata: dict[str, str] = {}
    safety_identifier: str = ""
    prompt_cache_key: str = ""

    @field_validator("stop", mode="before")
    @classmethod
    def _one_is_a_list(cls, stop: object) -> object:
        return [stop] if isinstance(stop, str) else stop


def parse_chat(body: bytes) -> ChatRequest:
    """Read a request.

    Raises:
        ApiError: It is not JSON, says something that is not understood, or too much.
    """
    if body.count(b",") > _MOST_COMMAS:
        msg = (
            f"got a body with over {_MOST_COMMAS} commas, expected at most so many; send fewer values, or shorter texts"
        )
        raise ApiError(413, msg)
    try:
        text = body.decode()
        said = _without_nulls(json.loads(text, parse_constant=_refused))
        if "\\u" in text:
            json.dumps(said, ensure_ascii=False).encode()  # halves of characters can be written so, and nowhere shown
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"got a body that is not JSON ({error}), expected an object; correct it") from error
    if isinstance(said, dict):
        said = {key: value for key, value in said.items() if not _asks_for_nothing(key, value)}
    try:
        return ChatRequest.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = _path(first["loc"])
        raise ApiError(400, _worded(where, first), where or None) from error


def _refused(constant: str) -> object:
    """NaN and the infinities are Python's, not JSON's."""
    raise ValueError(constant)


def _asks_for_nothing(key: str, value: object) -> bool:
    return any(value == each and type(value) in (type(each), float) for each in _NEUTRAL.get(key, ()))


def _path(steps: tuple[int | str, ...]) -> str:
    """Leave out the kind of a part, which pydantic names after the part's number."""
    before = (None, *steps)
    tags = ("text", "image_url", "video_url")
    return ".".join(
        str(step) for last, step in zip(before, steps, strict=False) if not (isinstance(last, int) and step in tags)
    )


def _worded(where: str, error: Any) -> str:  # noqa: ANN401  pydantic_core.ErrorDetails
    if error["type"] == "extra_forbidden":
        return f"got {where}={_short(error['input'])}, which this server does not offer; leave it out"
    if error["type"] == "missing":
        return f"got no {where}, expected one; add it"
    expected = re.sub(r"dictionary or instance of \w+", "object", error["msg"])
    return f"got {_short(error['input'])} as {where or 'body'}: {expected}; correct it"


def _short(value: object) -> str:
    shown = reprlib.repr(value)
    return shown if len(shown) < 80 else f"{shown[:80]}…"


def _without_nulls(value: Any) -> Any:  # noqa: ANN401  JSON
    """Leave out what is null: clients write all fields that they know."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
