"""One JSON object a line, read line by line; or a JSON list, whose text is held in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ppl.datamodules.records import problem
from ppl.datamodules.storage.opening import Item, open_bytes

_SPACE = re.compile(r"[ \t\r\n]*")
_CHUNK = 4096
_BOM = b"\xef\xbb\xbf"
_EXPECTED = "one JSON list a file or one JSON object a line"


def matches(path: str, head: bytes | None) -> bool:
    """Take every file that nothing else took."""
    del path
    return head is not None


def items(path: str) -> Iterator[Item | ValueError]:
    """Give the items; a broken line is an error in its place, a broken list ends with one, as does what is no text.

    Args:
        path: On disk, or a URL.
    """
    with open_bytes(path) as file:
        head = file.read(_CHUNK)
        if b"\0" in head:
            yield _no_text(path)
            return
        start = len(_BOM) if head.startswith(_BOM) else 0
        file.seek(start)
        is_list = _starts_list(file)
        file.seek(start)
        yield from _listed(path, file) if is_list else _lines(path, file)


def _starts_list(file: Any) -> bool:  # noqa: ANN401
    while chunk := file.read(_CHUNK):
        if chunk.strip():
            return chunk.lstrip().startswith(b"[")
    return False


def _lines(path: str, file: Any) -> Iterator[Item | ValueError]:  # noqa: ANN401
    for number, line in enumerate(file, start=1):  # of bytes: text would also be cut at a lone carriage return
        if line.strip():
            origin = f"{path}:{number}"
            try:
                yield Item(json.loads(line.decode()), origin)
            except (ValueError, RecursionError) as error:
                yield _broken(path, number, error)


def _listed(path: str, file: Any) -> Iterator[Item | ValueError]:  # noqa: ANN401
    try:
        text = file.read().decode()
    except UnicodeDecodeError:
        yield _no_text(path)
        return
    decoder, place, line, counted, index = json.JSONDecoder(), text.index("[") + 1, 1, 0, 0
    try:
        place = _after_space(text, place)
        while index or text[place : place + 1] != "]":
            line, counted = line + text.count("\n", counted, place), place
            value, place = decoder.raw_decode(text, place)
            yield Item(value, f"{path}:{line}, item {index}")
            index, place = index + 1, _after_space(text, place)
            if text[place : place + 1] == "]":
                break
            if text[place : place + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
            place = _after_space(text, place + 1)
        if _after_space(text, place + 1) != len(text):
            raise json.JSONDecodeError("Extra data", text, place + 1)
    except (ValueError, RecursionError) as error:
        yield _broken(path, error.lineno if isinstance(error, json.JSONDecodeError) else line, error)


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    assert found is not None
    return found.end()


def _broken(path: str, line: int, error: ValueError | RecursionError) -> ValueError:
    """Also for JSON that is well formed, but nested too deep or with numbers too long for Python."""
    if isinstance(error, UnicodeDecodeError):
        return _no_text(path, line)
    told = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
    found = problem(f"{path}:{line}", f"broken JSON ({told})", _EXPECTED, "fix this line")
    found.__cause__ = error
    return found


def _no_text(path: str, line: int = 1) -> ValueError:
    change = "save it as UTF-8, or unpack it if it is compressed"
    return problem(f"{path}:{line}", "bytes that are no UTF-8 text", f"{_EXPECTED}, a tar or Parquet", change)
