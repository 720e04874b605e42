"""WebDataset tars: files of one sample share their name up to the first dot; its ``.json`` is the item.

A medium is called by its ending (``jpg``, ``0.jpg``) or its full name. An item without media keys has all the sample's
media, in the tar's order. Media are read where they lie, so the tar must not be compressed.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from ppl.datamodules.records import ByteRange, TableCell, problem
from ppl.datamodules.storage.opening import Item, open_bytes

_ENDINGS = {"image": {"jpg", "jpeg", "png", "webp"}, "video": {"mp4", "mkv", "webm", "avi", "mov"}}
_MEDIA_KEYS = {"messages", "image", "images", "video", "videos", "multi-image", "video_id"}


def matches(path: str, head: bytes | None) -> bool:
    """Tell a tar by its magic number."""
    del path
    return head is not None and head[257:262] == b"ustar"


def items(path: str) -> Iterator[Item | ValueError]:
    """Give one item a sample; a tar that is cut short ends with an error.

    Args:
        path: On disk, or a URL.
    """
    try:
        with open_bytes(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            files = (member for member in tar if member.isfile())
            for key, members in groupby(files, key=lambda member: _split(member.name)[0]):
                yield _item(tar, list(members), f"{path}, sample {key!r}")
    except tarfile.TarError as error:
        told = problem(path, f"a tar that cannot be read to its end ({error})", "a whole one", "fetch it again")
        told.__cause__ = error
        yield told


def _split(name: str) -> tuple[str, str]:
    """Part a name into that of its sample and its ending."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return folder + slash + stem, ending


def _item(tar: tarfile.TarFile, members: list[tarfile.TarInfo], origin: str) -> Item | ValueError:
    endings = [_split(member.name)[1] for member in members]
    if endings.count("json") != 1:
        return problem(origin, f"the files {endings}", "one .json among them", "write the record as .json")
    file = tar.extractfile(members[endings.index("json")])
    assert file is not None
    try:
        value = json.loads(file.read().decode())
    except (ValueError, RecursionError) as error:
        return problem(origin, f"broken JSON ({error})", "one JSON object", "fix the .json")
    found: dict[str, ByteRange | TableCell] = {}
    for member, ending in zip(members, endings, strict=True):
        found[member.name] = found[ending] = ByteRange(member.offset_data, member.size)
    if isinstance(value, dict) and not _MEDIA_KEYS & value.keys():
        value |= _media(endings)
    return Item(value, origin, found)


def _media(endings: list[str]) -> dict[str, Any]:
    """Say what an item without media keys is about."""
    found = {
        kind: [ending for ending in endings if ending.rpartition(".")[2].lower() in known]
        for kind, known in _ENDINGS.items()
    }
    return {kind: names for kind, names in found.items() if names}
