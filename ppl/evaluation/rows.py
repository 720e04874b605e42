"""What a model answered, one JSON line a question: enough to score it without the benchmark's files or the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Row:
    """One answered question."""

    benchmark: str
    """Its name, with its options where it has any."""
    protocol: Mapping[str, Any]
    """``class_path`` and ``init_args``, from which it is built again, and its ``version``."""
    total: int
    """Questions that the benchmark has; rows may be fewer, and their share is reported."""
    id: str
    cluster: str
    groups: Mapping[str, str]
    question: str
    options: Sequence[str]
    answer: str | None
    answers: Sequence[str]
    facts: Mapping[str, Any]
    prompt: str
    """All that was said to the model, in the order it was said, before the chat template."""
    prompt_hash: str
    guide: str
    """The text that guided the pooling."""
    text: str
    """What the model said, as it said it."""
    model: str = ""
    """What answered: a checkpoint, or a digest of a recipe."""
    frames: Sequence[Sequence[int]] = ()
    """Numbers of the frames of each medium."""
    visual_tokens: int = 0
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    """By stage; what a batch took together is shared out evenly."""


def prompt_digest(system: str, prompt: str, answer_prefix: str, guide: str) -> str:
    """Tell prompts apart in 16 hexadecimal digits."""
    said = json.dumps([system, prompt, answer_prefix, guide])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def to_line(row: Row) -> str:
    """Write a row as a line."""
    return json.dumps(asdict(row), ensure_ascii=False) + "\n"


def from_line(line: str | bytes) -> Row:
    """Read a row.

    Raises:
        TypeError: It is no row, or one with other fields, or a field holds something else; the message names it.
        ValueError: It is no JSON.
    """
    values = json.loads(line)
    if not isinstance(values, dict):
        msg = f"got {_shown(values)}, expected an object"
        raise TypeError(msg)
    lacking, strange = sorted(_REQUIRED - values.keys()), sorted(values.keys() - _KINDS.keys())
    if lacking or strange:
        msg = f"it lacks {lacking} and has {strange} beside its own fields, expected {list(_KINDS)}"
        raise TypeError(msg)
    for name, value in values.items():
        if not _fits(value, _KINDS[name]):
            msg = f"field {name}: got {_shown(value)}, expected {_words(_KINDS[name])}"
            raise TypeError(msg)
    return Row(**values)


_KINDS = get_type_hints(Row)
_REQUIRED = {each.name for each in fields(Row) if each.default is each.default_factory is MISSING}
_LONGEST = 80
"""Characters of a value in messages."""
_WORDS = {str: "text", int: "a whole number", float: "a number", NoneType: "null", Any: "anything"}


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401  a type, or one of its generic forms
    """Whether JSON gave what an annotation says."""
    if kind is Any or type(value) is kind:  # True is no number
        return True
    origin, within = get_origin(kind), get_args(kind)
    if origin is Sequence:
        return isinstance(value, list) and all(_fits(each, within[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, dict) and all(_fits(each, within[1]) for each in value.values())
    if origin is None:
        return kind is float and type(value) is int
    return any(_fits(value, each) for each in within)


def _words(kind: Any) -> str:  # noqa: ANN401
    """An annotation as JSON calls it."""
    origin, within = get_origin(kind), get_args(kind)
    if origin is None:
        return _WORDS[kind]
    if origin in (Sequence, Mapping):
        return f"{'a list' if origin is Sequence else 'an object'} of {_words(within[-1])}"
    return " or ".join(map(_words, within))


def _shown(value: object) -> str:
    """The beginning of a value, as JSON writes it."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def read_rows(path: Path) -> Iterator[Row]:
    """Read the rows of a file; a last line that a killed run left half-written is no row.

    Raises:
        ValueError: Another line is no row; the message names it.
    """
    lines = path.read_bytes().splitlines(keepends=True)  # of text it would break at more than ends of lines
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield from_line(line)
        except (ValueError, TypeError) as error:
            if number == len(lines) and not line.endswith(b"\n") and isinstance(error, ValueError):
                return
            msg = (
                f"{path}:{number}: got a line that is no answered question ({error}), expected what `ppl predict` "
                "wrote: name another file, or take the line out and run `ppl predict` again, which answers what lacks"
            )
            raise ValueError(msg) from error


def merge(rows: Iterable[Row]) -> list[Row]:
    """Join the shards of one run: a question that was answered twice in the same words counts once.

    Raises:
        ValueError: A question has two answers.
    """
    kept: dict[str, Row] = {}
    for row in rows:
        known = kept.setdefault(row.id, row)
        if (known.text, known.prompt_hash) != (row.text, row.prompt_hash):
            msg = (
                f"got two answers to question {row.id!r} of {row.benchmark}, {known.text!r} and {row.text!r}, expected "
                "the shards of one run: score runs one by one, or compare them with `ppl compare`"
            )
            raise ValueError(msg)
    return list(kept.values())
