"""Read annotation files into checked records.

Two forms are read, told apart by content: LLaVA's ``conversations`` and chat ``messages``; either may be a JSON list or
one object a line.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any

from ppl.datamodules.records import PLACEHOLDER, SOURCE_TAGS, MediumRef, Record, Role, Turn, check_record, problem

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_TAGS = re.compile("|".join(SOURCE_TAGS))
_KEYS = ("id", "image", "video", "conversations", "messages", "start", "end", "category")


def read_records(path: str | Path, media_root: str | Path | None = None) -> list[Record]:
    """Read and check every record of an annotation file.

    Args:
        path: A JSON list, or JSON lines; items hold LLaVA's ``conversations`` or ``messages``.
        media_root: Folder that relative media paths start from; None means the annotation file's own folder.
    """
    file = Path(path)
    root = file.parent if media_root is None else Path(media_root)
    return [_record(item, root, origin) for item, origin in _items(file)]


def _items(file: Path) -> list[tuple[Any, str]]:
    """Parse the file into (item, origin) pairs."""
    text = file.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        found = [(item, f"{file}, item {index}") for index, item in enumerate(_parse(text, file, first_line=1))]
    else:  # not splitlines(): it would also cut at U+2028 inside a string
        lines = enumerate(text.split("\n"), start=1)
        found = [(_parse(line, file, number), f"{file}:{number}") for number, line in lines if line.strip()]
    if not found:
        raise problem(
            str(file), "an empty file", "a JSON list or one JSON object a line", "check how the file was written"
        )
    return found


def _parse(text: str, file: Path, first_line: int) -> Any:  # noqa: ANN401
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        origin = f"{file}:{first_line + error.lineno - 1}"
        raise problem(
            origin,
            f"broken JSON ({error.msg}, column {error.colno})",
            "one JSON list a file or one JSON object a line",
            "fix this line",
        ) from error


def _record(item: Any, root: Path, origin: str) -> Record:  # noqa: ANN401
    if not isinstance(item, dict):
        raise problem(
            origin, f"a {type(item).__name__}", "an object with 'conversations' or 'messages'", "fix this item"
        )
    for key in item:
        similar = [] if key in _KEYS else difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.8)
        if similar:
            raise problem(origin, f"the unknown key {key!r}", f"{similar[0]!r}", "rename or remove it")
    if ("messages" in item) == ("conversations" in item):
        raise problem(origin, f"the keys {sorted(item)}", "either 'conversations' or 'messages'", "keep one of the two")
    stray = [key for key in ("image", "video", "start", "end") if key in item and "messages" in item]
    if stray:
        raise problem(origin, f"{stray} beside 'messages'", "media as parts of a message's content", "move them there")
    turns, media = _from_messages(item, root, origin) if "messages" in item else _from_llava(item, root, origin)
    record = Record(
        id=str(_value(item, "id", (str, int), origin) or Path(origin).name),
        turns=turns,
        media=media,
        category=_value(item, "category", (str,), origin) or "",
        origin=origin,
    )
    check_record(record)
    return record


def _from_llava(item: dict[str, Any], root: Path, origin: str) -> tuple[list[Turn], list[MediumRef]]:
    turns = [
        Turn(_role(entry, "from", origin), _required(entry, "value", (str,), origin).strip())
        for entry in _required(item, "conversations", (list,), origin)
    ]
    paths = {kind: _value(item, kind, (str, list), origin) or [] for kind in ("image", "video")}
    paths = {kind: [value] if isinstance(value, str) else value for kind, value in paths.items()}
    images = [_medium("image", path, {} if paths["video"] else item, root, origin) for path in paths["image"]]
    videos = [_medium("video", path, item, root, origin) for path in paths["video"]]
    tags = [tag for turn in turns if turn.role == "user" for tag in _TAGS.findall(turn.text)]
    ordered = _in_text_order(tags, images, videos, origin)
    return _with_placeholders(turns, missing=0 if tags else len(ordered)), ordered


def _in_text_order(tags: list[str], images: list[MediumRef], videos: list[MediumRef], origin: str) -> list[MediumRef]:
    """Order media by their tags; without tags, and for one kind under the other's tag (LLaVA-Video), as listed."""
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


def _with_placeholders(turns: list[Turn], missing: int) -> list[Turn]:
    """Write tags as ``PLACEHOLDER``; put ``missing`` ones before the first user turn's text, as LLaVA does."""
    written: list[Turn] = []
    for turn in turns:
        text = turn.text
        if turn.role == "user":
            text, missing = f"{PLACEHOLDER}\n" * missing + _TAGS.sub(PLACEHOLDER, text), 0
        written.append(Turn(turn.role, text))
    return written


def _from_messages(item: dict[str, Any], root: Path, origin: str) -> tuple[list[Turn], list[MediumRef]]:
    turns: list[Turn] = []
    media: list[MediumRef] = []
    for message in _required(item, "messages", (list,), origin):
        role = _role(message, "role", origin)
        content = _required(message, "content", (str, list), origin)
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts: list[str] = []
        for part in parts:
            kind = _required(part, "type", (str,), origin)
            if kind not in {"text", "image", "video"}:
                raise problem(
                    origin, f"a part of type {kind!r}", "'text', 'image' or 'video'", "change the part's type"
                )
            value = _required(part, kind, (str,), origin)
            if kind != "text":
                media.append(_medium(kind, value, part, root, origin))
            texts.append(value.strip() if kind == "text" else PLACEHOLDER)
        turns.append(Turn(role, "\n".join(texts)))
    return turns, media


def _medium(kind: str, path: Any, times: dict[str, Any], root: Path, origin: str) -> MediumRef:  # noqa: ANN401
    if not isinstance(path, str) or not path:
        raise problem(origin, f"{path!r} as {kind} path", "a non-empty string", "name the file")
    start, end = (_value(times, key, (int, float), origin) for key in ("start", "end"))
    if (start is not None or end is not None) and kind == "image":
        raise problem(origin, "'start' or 'end' on an image", "times on videos only", "remove them")
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise problem(origin, f"a clip from {start} to {end} s", "0 <= start < end", "fix the times")
    clip = [None if time is None else float(time) for time in (start, end)]
    return MediumRef("video" if kind == "video" else "image", str(root / path), *clip)


def _role(entry: Any, key: str, origin: str) -> Role:  # noqa: ANN401
    name = _required(entry, key, (str,), origin)
    if name not in _ROLES:
        raise problem(origin, f"the role {name!r}", f"one of {', '.join(_ROLES)}", "rename the role")
    return _ROLES[name]


def _required(entry: Any, key: str, types: tuple[type, ...], origin: str) -> Any:  # noqa: ANN401
    if not isinstance(entry, dict) or entry.get(key) is None:
        raise problem(origin, f"{entry!r:.80} without {key!r}", f"an object with {key!r}", "add the key")
    return _value(entry, key, types, origin)


def _value(entry: dict[str, Any], key: str, types: tuple[type, ...], origin: str) -> Any:  # noqa: ANN401
    value = entry.get(key)
    if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
        names = " or ".join(kind.__name__ for kind in types)
        raise problem(origin, f"{key!r} of type {type(value).__name__}", names, f"write {key!r} as {names}")
    return value
