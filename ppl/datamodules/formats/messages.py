"""The chat form: ``messages`` of ``role`` and ``content``, media as parts of a content.

A part may name its medium (``{"type": "image", "image": path}``), or take the next of the lists ``images`` and
``videos`` beside ``messages``, as in tables for TRL. A video may be a list of its frames with a ``fps``, as
qwen-vl-utils has it. In a content that is a text, ``<image>`` and ``<video>`` take the next of those lists, as in
ms-swift's files.

Three keys are for what other forms can say: a message's ``separator``, which stands between its parts in place of a
line's end, and they are kept as written; a part's ``inside``, where in the file that it names its medium lies; and
``rejected_response``, the worse last answer, as ms-swift calls it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from ppl.datamodules.formats.fields import MediaPlace, as_list, medium, optional, record_id, required, role
from ppl.datamodules.records import PLACEHOLDER, ByteRange, MediumRef, Record, TableCell, Turn, problem
from ppl.datamodules.storage.opening import is_url

KEYS = ("id", "messages", "images", "videos", "rejected_response", "category")
SIGN = "'messages'"

_Kind = Literal["image", "video"]


def matches(item: dict[str, Any]) -> bool:
    """Tell the form by its key."""
    return "messages" in item


def read(item: dict[str, Any], origin: str, place: MediaPlace) -> Record:
    """Read one item.

    Args:
        item: That matches.
        origin: For messages.
        place: Where its media are.
    """
    stray = [key for key in ("image", "video", "start", "end", "fps") if key in item]
    if stray:
        raise problem(origin, f"{stray} beside 'messages'", "media as parts of a message's content", "move them there")
    listed: dict[str, Iterator[Any]] = {kind: iter(as_list(item, f"{kind}s", origin)) for kind in ("image", "video")}
    turns: list[Turn] = []
    media: list[MediumRef] = []
    for message in required(item, "messages", (list,), origin):
        speaker = role(message, "role", origin)
        content = required(message, "content", (str, list), origin)
        separator = optional(message, "separator", (str,), origin)
        texts = [_take_tags(content, listed, media, place, origin)] if isinstance(content, str) else []
        for part in content if isinstance(content, list) else []:
            kind = _kind(part, origin)
            if kind is None:
                texts.append(required(part, "text", (str,), origin))
            else:
                media.append(_part(part, kind, listed[kind], place, origin))
                texts.append(PLACEHOLDER)
        turns.append(Turn(speaker, _joined(texts, separator)))
    unused = [kind for kind, names in listed.items() if next(names, None) is not None]
    if unused:
        raise problem(origin, f"more {unused[0]}s than parts of type {unused[0]!r}", "as many", "add or remove some")
    category = optional(item, "category", (str,), origin) or ""
    rejected = optional(item, "rejected_response", (str,), origin)
    rejected = None if rejected is None else rejected.strip()
    return Record(record_id(item, origin), turns, media, category, origin, rejected)


def _take_tags(
    text: str, listed: dict[str, Iterator[Any]], media: list[MediumRef], place: MediaPlace, origin: str
) -> str:
    """Put placeholders for the tags of a text, as long as there are media for them: any other is left to be refused."""
    pieces = re.split("(<image>|<video>)", text)
    for index in range(1, len(pieces), 2):
        kind: _Kind = "image" if pieces[index] == "<image>" else "video"
        name = next(listed[kind], None)
        if name is not None:
            media.append(medium(kind, name, {}, place, origin))
            pieces[index] = PLACEHOLDER
    return "".join(pieces)


def _joined(texts: list[str], separator: str | None) -> str:
    return "\n".join(text.strip() for text in texts) if separator is None else separator.join(texts)


def _kind(part: Any, origin: str) -> _Kind | None:  # noqa: ANN401
    kind = required(part, "type", (str,), origin)
    if kind not in {"text", "image", "video"}:
        raise problem(origin, f"a part of type {kind!r}", "'text', 'image' or 'video'", "change the part's type")
    return None if kind == "text" else kind


def _part(part: dict[str, Any], kind: _Kind, listed: Iterator[Any], place: MediaPlace, origin: str) -> MediumRef:
    value = optional(part, kind, (str, list) if kind == "video" else (str,), origin)
    if value is None:
        value = next(listed, None)
    if value is None:
        raise problem(origin, f"{part!r:.80} without {kind!r}", f"an object with {kind!r}", "add the key")
    inside = _inside(part, origin)
    if inside is None:
        return medium(kind, value, part, place, origin)
    ref = medium(kind, value, part, MediaPlace(place.folder or "/"), origin)
    return replace(ref, path=value if is_url(value) else ref.path, inside=inside)


def _inside(part: dict[str, Any], origin: str) -> ByteRange | TableCell | None:
    inside = optional(part, "inside", (dict,), origin)
    if inside is None:
        return None
    numbers = [optional(inside, key, (int,), origin) or 0 for key in ("offset", "size", "row", "item")]
    if min(numbers) < 0:
        raise problem(origin, f"{inside} as 'inside'", "numbers from 0 on", "fix the part's 'inside'")
    if "offset" in inside:
        return ByteRange(required(inside, "offset", (int,), origin), required(inside, "size", (int,), origin))
    row, column = required(inside, "row", (int,), origin), required(inside, "column", (str,), origin)
    return TableCell(row, column, optional(inside, "item", (int,), origin), optional(inside, "split", (str,), origin))
