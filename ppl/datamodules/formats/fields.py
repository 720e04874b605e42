"""Read the fields of an item, whatever its form: typed values, roles, media and their placeholders."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ppl.datamodules.records import (
    PLACEHOLDER,
    SOURCE_TAGS,
    ByteRange,
    MediumRef,
    Record,
    Role,
    TableCell,
    Turn,
    problem,
)
from ppl.datamodules.storage.opening import is_url, joined

TIME_KEYS = ("start", "end", "fps")
"""Beside a video: seconds of a clip; the rate of a video given as frames."""

_LONGEST_NAME = 255
"""Bytes of a file's name, in every file system of note."""

_TAGS = re.compile("|".join(SOURCE_TAGS))
_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


@dataclass(frozen=True)
class MediaPlace:
    """Where the media of an item are looked for."""

    folder: str | None
    """Relative paths start here; None: they are refused."""
    file: str = ""
    """What ``members`` lie inside."""
    members: Mapping[str, ByteRange | TableCell] = field(default_factory=dict)
    """Media stored with the item, by the name that the item calls them."""

    def path(self, name: str, origin: str) -> str:
        """Place one file.

        Raises:
            ValueError: A relative path without a folder to start from; or no path, but the medium itself as text.
        """
        if not is_url(name) and any(len(part.encode(errors="replace")) > _LONGEST_NAME for part in name.split("/")):
            got = f"{name[:40]!r}… of {len(name)} characters as the path of a medium"
            raise problem(origin, got, "a path", "write the medium to a file and name that")
        if self.folder is None and not (is_url(name) or Path(name).is_absolute()):
            raise problem(origin, f"the relative media path {name!r}", "a folder it starts from", "set media_root")
        return joined(self.folder or "/", name)


def required(entry: Any, key: str, types: tuple[type, ...], origin: str) -> Any:  # noqa: ANN401
    """Give a value that has to be there.

    Args:
        entry: Perhaps an object.
        key: Of the value.
        types: It may have.
        origin: For messages.
    """
    if not isinstance(entry, dict) or entry.get(key) is None:
        raise problem(origin, f"{entry!r:.80} without {key!r}", f"an object with {key!r}", "add the key")
    return optional(entry, key, types, origin)


def optional(entry: Mapping[str, Any], key: str, types: tuple[type, ...], origin: str) -> Any:  # noqa: ANN401
    """Give a value, or None where there is none.

    Args:
        entry: An object.
        key: Of the value.
        types: It may have.
        origin: For messages.
    """
    value = entry.get(key)
    if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
        names = " or ".join(kind.__name__ for kind in types)
        raise problem(origin, f"{key!r} of type {type(value).__name__}", names, f"write {key!r} as {names}")
    return value


def as_list(entry: Mapping[str, Any], key: str, origin: str) -> list[Any]:
    """Give a value that may stand alone or in a list; none is an empty list."""
    value = optional(entry, key, (str, list), origin)
    return [value] if isinstance(value, str) else value or []


def role(entry: Any, key: str, origin: str) -> Role:  # noqa: ANN401
    """Give who speaks a turn, by any of the names in use."""
    name = required(entry, key, (str,), origin)
    if name not in _ROLES:
        raise problem(origin, f"the role {name!r}", f"one of {', '.join(_ROLES)}", "rename the role")
    return _ROLES[name]


def medium(
    kind: Literal["image", "video"],
    value: Any,  # noqa: ANN401
    times: Mapping[str, Any],
    place: MediaPlace,
    origin: str,
) -> MediumRef:
    """Refer to a medium.

    Args:
        kind: What it is.
        value: Its path; or, of a video, the paths of its frames.
        times: Where ``start``, ``end`` and ``fps`` may be.
        place: Where it is looked for.
        origin: For messages.
    """
    frames = value if kind == "video" and isinstance(value, list) else []
    names = frames or [value]
    if not all(isinstance(name, str) and name for name in names):
        raise problem(origin, f"{value!r:.80} as {kind} path", "a non-empty string", "name the file")
    start, end, fps = _times(kind, times, origin)
    if isinstance(value, str) and value in place.members:
        return MediumRef(kind, place.file, start, end, fps, inside=place.members[value])
    paths = tuple(place.path(name, origin) for name in names)
    return MediumRef(kind, paths[0], start, end, fps, paths if frames else ())


def _times(kind: str, times: Mapping[str, Any], origin: str) -> list[float | None]:
    start, end, fps = (_number(times, key, origin) for key in TIME_KEYS)
    if kind == "image" and (start, end, fps) != (None, None, None):
        raise problem(origin, "'start', 'end' or 'fps' on an image", "times on videos only", "remove them")
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise problem(origin, f"a clip from {start} to {end} s", "0 <= start < end", "fix the times")
    if fps is not None and fps <= 0:
        raise problem(origin, f"fps {fps}", "frames a second above 0", "fix the rate")
    return [None if value is None else float(value) for value in (start, end, fps)]


def _number(entry: Mapping[str, Any], key: str, origin: str) -> int | float | None:
    value = optional(entry, key, (int, float), origin)
    if value is not None and not abs(value) <= sys.float_info.max:
        raise problem(origin, f"{key!r} {value!r:.40}", "a finite number", f"fix {key!r}")
    return value


def tagged_record(
    item: Mapping[str, Any],
    turns: list[Turn],
    names: Mapping[Literal["image", "video"], list[Any]],
    place: MediaPlace,
    origin: str,
    rejected: str | None = None,
) -> Record:
    """Make the record of a form whose media stand beside the text and have tags in it, or no tags at all.

    Args:
        item: Where name, category and times are.
        turns: With ``<image>`` and ``<video>`` as written.
        names: What the item calls its media.
        place: Where they are looked for.
        origin: For messages.
        rejected: The worse answer of a preference pair.
    """
    images = [medium("image", name, {} if names["video"] else item, place, origin) for name in names["image"]]
    videos = [medium("video", name, item, place, origin) for name in names["video"]]
    media = _order_by_tags(turns, images, videos, origin)
    return Record(
        id=record_id(item, origin),
        turns=_with_placeholders(turns, len(media)),
        media=media,
        category=optional(item, "category", (str,), origin) or "",
        origin=origin,
        rejected=rejected,
    )


def record_id(item: Mapping[str, Any], origin: str) -> str:
    """Give the item's name, or its place in its file."""
    named = (optional(item, key, (str, int), origin) for key in ("id", "sample_id"))
    return str(next((name for name in named if name is not None), Path(origin).name))


def _order_by_tags(turns: list[Turn], images: list[MediumRef], videos: list[MediumRef], origin: str) -> list[MediumRef]:
    """Order media by ``<image>`` and ``<video>`` in the user turns.

    Without tags, and for one kind under the other's tag (as in LLaVA-Video), as listed, videos first.

    Raises:
        ValueError: Tags and media do not match.
    """
    tags = [tag for turn in turns if turn.role == "user" for tag in _TAGS.findall(turn.text)]
    if tags and images and videos:
        if (tags.count("<image>"), tags.count("<video>")) == (len(images), len(videos)):
            queues = {"<image>": iter(images), "<video>": iter(videos)}
            return [next(queues[tag]) for tag in tags]
    elif len(tags) in {0, len(images) + len(videos)}:
        return videos + images
    raise problem(
        origin,
        f"{tags.count('<image>')} <image> and {tags.count('<video>')} <video> placeholders",
        f"one for each of {len(images)} images and {len(videos)} videos",
        "fix the placeholders or the media lists (without any placeholder, media go first)",
    )


def _with_placeholders(turns: list[Turn], num_media: int) -> list[Turn]:
    """Write tags as ``PLACEHOLDER``; without any, put all before the first user turn's text, as LLaVA does."""
    missing = 0 if any(turn.role == "user" and _TAGS.search(turn.text) for turn in turns) else num_media
    written: list[Turn] = []
    for turn in turns:
        text = turn.text
        if turn.role == "user":
            text, missing = f"{PLACEHOLDER}\n" * missing + _TAGS.sub(PLACEHOLDER, text), 0
        written.append(Turn(turn.role, text))
    return written
