"""A record: one conversation and its media, and what makes it well formed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PLACEHOLDER = "<media>"
"""Stands for one medium in a turn's text, whatever the source called it."""

SOURCE_TAGS = ("<image>", "<video>")
"""What LLaVA's files write for ``PLACEHOLDER``."""

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation."""

    role: Role
    text: str
    """User turns hold ``PLACEHOLDER`` once per medium."""


@dataclass(frozen=True)
class ByteRange:
    """A medium inside another file, byte for byte: a member of a tar."""

    offset: int
    size: int
    is_base64: bool = field(default=False, repr=False)
    """Written as text, as in tables of benchmarks."""


@dataclass(frozen=True)
class TableCell:
    """A medium inside a table of Parquet or of Hugging Face ``datasets``."""

    row: int
    column: str
    item: int | None = None
    """Which one of a cell with a list of them."""
    split: str | None = None
    """The table's split, of a dataset that has several."""


@dataclass(frozen=True)
class MediumRef:
    """Where a medium lies; ``start`` and ``end`` (seconds) cut a clip out of a video."""

    kind: Literal["image", "video"]
    path: str
    """A file; of a video perhaps a folder of its frames, or the first of ``frames``."""
    start: float | None = None
    end: float | None = None
    fps: float | None = None
    """Frames a second of a video given as frames; None: unknown."""
    frames: tuple[str, ...] = ()
    """Image files that are the frames of a video, in order."""
    inside: ByteRange | TableCell | None = None
    """The part of ``path`` that is the medium; None: all of it."""
    num_frames: int | None = None
    """Frames to sample from a video; None: as many as the processor does."""

    @property
    def files(self) -> tuple[str, ...]:
        """Files and folders that have to be on disk; what lies inside another file was found with the record."""
        if self.inside is not None:
            return ()
        return self.frames or (self.path,)


@dataclass(frozen=True)
class Record:
    """A conversation about some media."""

    id: str
    turns: list[Turn]
    media: list[MediumRef]
    """In the order of their placeholders."""
    category: str = ""
    origin: str = ""
    """``file:line`` (or file and item), for messages to the user."""
    rejected: str | None = None
    """Of a preference pair, the worse last answer; the better one is the last turn. None: no such pair."""
    guide: str | None = None
    """What the pooling is guided by; None: the questions."""
    answer_prefix: str = ""
    """Begins the answer that a model is to go on with."""

    @property
    def questions(self) -> list[str]:
        """The user turns without placeholders and with single spaces."""
        return [" ".join(turn.text.replace(PLACEHOLDER, " ").split()) for turn in self.turns if turn.role == "user"]


def check_record(record: Record) -> None:
    """Raise ValueError, naming the record's origin, if turns and media do not make a conversation."""
    _check_text(record)
    expected = "user"
    for index, turn in enumerate(record.turns):
        if index == 0 and turn.role == "system":
            continue
        if turn.role != expected:
            before = f"after {record.turns[index - 1].role}" if index else "first"
            raise problem(
                record.origin,
                f"a turn of the {turn.role} {before} (turn {index})",
                f"one of the {expected}: an optional system turn, then user and assistant in turn",
                "merge or drop turns",
            )
        expected = "assistant" if turn.role == "user" else "user"
    if not record.questions or not all(record.questions):
        raise problem(
            record.origin, "an empty question", "text in every user turn besides the media", "write a question"
        )
    if record.rejected is not None and not (record.rejected and record.turns[-1].text):
        raise problem(
            record.origin, "a preference pair with an empty answer", "text in both", "write it or drop the pair"
        )
    _check_placeholders(record)


def check_answered(record: Record) -> None:
    """Raise ValueError, naming the record's origin, if the conversation does not end with one answer to learn."""
    if record.rejected is not None:
        raise problem(
            record.origin,
            "a preference pair ('chosen' and 'rejected')",
            "one answer to learn",
            "tune with preferences (DPO) on it, or make its chosen answer a conversation of its own",
        )
    if record.turns[-1].role != "assistant":
        raise problem(
            record.origin, "a conversation that ends with a question", "an assistant turn last", "add the answer"
        )
    if any(turn.role == "assistant" and not turn.text for turn in record.turns):
        raise problem(
            record.origin, "an empty assistant turn", "text in every answer", "write the answer or drop the turn"
        )


def _check_text(record: Record) -> None:
    """JSON may hold halves of characters, which no tokenizer takes and nothing can print."""
    words = [record.id, record.category, record.rejected or "", *(turn.text for turn in record.turns)]
    try:
        "".join([*words, *(path for medium in record.media for path in medium.files)]).encode()
    except UnicodeEncodeError as error:
        got = f"half a character, {error.object[error.start : error.end]!a}"
        raise problem(record.origin, got, "whole ones (a pair of surrogates)", "fix the text") from error


def _check_placeholders(record: Record) -> None:
    rejected = [] if record.rejected is None else [Turn("assistant", record.rejected)]
    for turn in [*record.turns, *rejected]:
        reserved = SOURCE_TAGS if turn.role == "user" else (*SOURCE_TAGS, PLACEHOLDER)
        for tag in reserved:
            if tag in turn.text:
                raise problem(
                    record.origin,
                    f"{tag} in the text of the {turn.role}",
                    "tags in the user turns of LLaVA's form only, media parts in the messages form",
                    "reword the text or move the medium",
                )
    count = sum(turn.text.count(PLACEHOLDER) for turn in record.turns)
    if count != len(record.media):
        raise problem(
            record.origin,
            f"{count} placeholders in the user turns",
            f"{len(record.media)}, one for each medium",
            "add or remove placeholders or media",
        )


def problem(origin: str, got: str, expected: str, change: str) -> ValueError:
    """Word the error of a record: where, what was got, what was expected and what to change."""
    return ValueError(f"{origin}: got {got}; expected {expected}; {change}")
