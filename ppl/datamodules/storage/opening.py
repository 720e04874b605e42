"""Open a file by path or by any URL that fsspec knows, and what every kind of storage gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from ppl.datamodules.records import ByteRange, TableCell

_HEAD_BYTES = 512


class Item(NamedTuple):
    """What one record is read from."""

    value: Any
    origin: str
    """``file:line``, or what comes nearest to it."""
    members: Mapping[str, ByteRange | TableCell] = {}
    """Media stored in the same file, by the names that ``value`` calls them."""


def is_url(path: str) -> bool:
    """Tell a URL from a path on disk."""
    return "://" in path


def joined(folder: str, name: str) -> str:
    """Give the path of a name from a folder, either of which may be a URL; absolute names stay as they are."""
    if is_url(name) or (is_url(folder) and Path(name).is_absolute()):
        return name
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else str(Path(folder) / name)


def open_bytes(path: str) -> Any:  # noqa: ANN401  fsspec's files have no type in common with Python's
    """Open for reading; the caller closes.

    Args:
        path: On disk, or a URL.
    """
    if not is_url(path):
        return Path(path).open("rb")
    system, name = fsspec.url_to_fs(path)
    return system.open(name, "rb")


def read_head(path: str) -> bytes | None:
    """Give the first bytes of a file; None for a folder.

    Args:
        path: On disk, or a URL.

    Raises:
        FileNotFoundError: There is neither.
    """
    if not is_url(path) and Path(path).is_dir():
        return None
    try:
        with open_bytes(path) as file:
            return file.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        msg = f"got {path!r}, where nothing is, expected an annotation file: correct the path"
        raise FileNotFoundError(msg) from error
