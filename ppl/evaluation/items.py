"""The questions of a benchmark, as its authors distribute them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

MEDIA_MARK = "<media>"
"""Stands for one medium in a prompt; a prompt without it has its media before it, each on a line."""


class Cell(NamedTuple):
    """An image within a Parquet file, as bytes or ``{bytes, path}``."""

    row: int
    column: str
    item: int | None = None
    """Which one of a list of them."""


class Base64(NamedTuple):
    """An image within a text file, as base64: where its text begins and how long it is, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Medium:
    """Where an image or a video lies; ``start`` and ``end`` (seconds) cut a clip out of a video."""

    kind: Literal["image", "video"]
    path: str
    """A file, or a folder of a video's frames."""
    start: float | None = None
    end: float | None = None
    fps: float | None = None
    """Frames a second of a folder of frames; None: unknown."""
    inside: Cell | Base64 | None = None
    """The part of ``path`` that is the medium; None: all of it."""


@dataclass(frozen=True)
class Item:
    """One question."""

    id: str
    """Unique within the benchmark."""
    media: tuple[Medium, ...]
    """In the order they are shown."""
    question: str
    options: tuple[str, ...] = ()
    """Without their letters."""
    answer: str | None = None
    """The reference: the letter of an option, or text; None: its authors keep it."""
    answers: tuple[str, ...] = ()
    """All references, where people gave several."""
    cluster: str = ""
    """What questions that are not independent share, mostly the video; empty: the question is on its own."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """What scores are broken down by: ``{"duration": "short"}``."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What only this benchmark's protocols read: plain values that JSON can hold. Rows keep them."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What prompts are made from beside them: paths, ``{"subtitles": …}``. Rows do not keep them."""


class Shown(NamedTuple):
    """What a model saw of one medium."""

    indices: tuple[int, ...] = ()
    """Numbers of a video's frames at its average rate; empty for images."""
    times: tuple[float, ...] = ()
    """When they are shown, in seconds."""
    duration: float = 0.0
    """Of the whole video, in seconds."""
    fps: float = 0.0
    """Average number of the video's frames in a second; 0: unknown."""


def letter(index: int) -> str:
    """The letter of an option: A for 0."""
    return chr(ord("A") + index)
