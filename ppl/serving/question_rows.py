"""Files of questions: one conversation a row, to be answered by a model."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ppl.datamodules.annotations import FORMATS
from ppl.datamodules.formats.fields import TIME_KEYS, MediaPlace, as_list, medium, optional, record_id, tagged_record
from ppl.datamodules.records import MediumRef, Turn, check_record, problem
from ppl.datamodules.storage import json_text
from ppl.datamodules.storage.opening import Item
from ppl.serving.conversation import without_placeholders
from ppl.serving.encoded_media import is_image

_KEYS = (
    *("id", "sample_id", "question", "questions", "answer", "category"),
    *("media", "image", "images", "video", "videos", *TIME_KEYS),
)
_EXPECTED = "'question' or 'questions', or one of the forms of annotation files"


class QuestionRow(NamedTuple):
    """What is asked in one conversation."""

    id: str
    turns: list[Turn]
    """What it goes on from; empty, or ends with an answer."""
    media: list[MediumRef]
    questions: list[str]
    """One after the other; each sees the answers to those before it. Placeholders say where media stand."""
    reference: str | None = None
    """The answer that the row has."""

    @property
    def asked(self) -> list[str]:
        """The questions without placeholders."""
        return [without_placeholders(question) for question in self.questions]


def read_questions(path: str | Path, media_root: str | Path | None = None) -> Iterator[QuestionRow | ValueError]:
    """Read one row after the other; a bad one is an error in its place, and the rest follows.

    A row has ``question``, or ``questions`` that follow on each other, and its media as ``media`` (told by content),
    ``video`` or ``image``; or it is of one of the forms of annotation files, whose last question is asked.

    Args:
        path: JSON lines or a JSON list.
        media_root: Folder that relative media paths start from; None: the file's own.

    Raises:
        FileNotFoundError: There is no such file.
    """
    place = MediaPlace(str(Path(path).parent if media_root is None else media_root))
    seen: dict[str, str] = {}
    for item in json_text.items(str(path)):
        if isinstance(item, ValueError):
            yield item
            continue
        try:
            row = _row(item, place)
            if row.id in seen:
                expected = f"another than that of {seen[row.id]}"
                raise problem(item.origin, f"the id {row.id!r}", expected, "change one")
            seen[row.id] = item.origin
            yield row
        except ValueError as error:
            yield error


def _row(item: Item, place: MediaPlace) -> QuestionRow:
    value, origin = item.value, item.origin
    if not isinstance(value, dict):
        raise problem(origin, f"a {type(value).__name__}", f"an object with {_EXPECTED}", "fix this row")
    if "question" in value or "questions" in value:
        return _asked(value, origin, place)
    forms = [form for form in FORMATS if form.matches(value)]
    if len(forms) != 1:
        raise problem(origin, f"the keys {sorted(value)}", f"{_EXPECTED}", "rename the keys")
    record = forms[0].read(value, origin, place)
    check_record(record)
    *turns, last = record.turns
    reference = None
    if last.role == "assistant":
        reference = last.text
        *turns, last = turns
    return QuestionRow(record.id, turns, record.media, [last.text], reference)


def _asked(value: Mapping[str, Any], origin: str, place: MediaPlace) -> QuestionRow:
    for key in value:
        similar = [] if key in _KEYS else difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.8)
        if similar:
            raise problem(origin, f"the unknown key {key!r}", f"{similar[0]!r}", "rename or remove it")
    questions = as_list(value, "question", origin) + as_list(value, "questions", origin)
    if not questions or not all(isinstance(question, str) and question.strip() for question in questions):
        raise problem(origin, f"{questions!r:.80} to ask", "one text or several, none of them empty", "write them")
    names: dict[Literal["image", "video"], list[Any]] = {
        "image": as_list(value, "image", origin) + as_list(value, "images", origin),
        "video": as_list(value, "video", origin) + as_list(value, "videos", origin),
    }
    reference = optional(value, "answer", (str,), origin)
    turns = [Turn("user", question.strip()) for question in questions]
    media = as_list(value, "media", origin)
    if media and any(names.values()):
        raise problem(origin, "'media' beside 'image' or 'video'", "one of them", "keep one")
    if media:
        refs = [_told_by_content(name, value, place, origin) for name in media]
        return QuestionRow(record_id(value, origin), [], refs, [turn.text for turn in turns], reference)
    record = tagged_record(value, turns, names, place, origin)
    return QuestionRow(record.id, [], record.media, [turn.text for turn in record.turns], reference)


def _told_by_content(name: Any, times: Mapping[str, Any], place: MediaPlace, origin: str) -> MediumRef:  # noqa: ANN401
    kind = "image" if isinstance(name, str) and name and is_image(place.path(name, origin)) else "video"
    return medium(kind, name, times, place, origin)
