"""Read the questions and images of image benchmarks from the files their authors distribute."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ppl.evaluation.benchmark import readable, required
from ppl.evaluation.items import Base64, Medium


def read_json(file: Path, what: str) -> Any:  # noqa: ANN401  whatever its authors wrote
    """Read a JSON file.

    Args:
        file: Its path.
        what: What it holds, for the message to one who has not got it.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is something else.
    """
    with readable(required(file, what), what):
        return json.loads(file.read_text(encoding="utf-8"))


def read_json_lines(file: Path, what: str) -> list[dict[str, Any]]:
    """Read a file of JSON lines.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is something else.
    """
    with readable(required(file, what), what):
        lines = file.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]


def parquet_files(root: Path, pattern: str, what: str) -> list[Path]:
    """Find the Parquet files of a split, in this folder or any below, in the order of their names.

    Raises:
        FileNotFoundError: There is none.
    """
    found = sorted(required(root, what).rglob(pattern))
    if not found:
        msg = f"got no {pattern} below {root}, expected {what}: set the benchmark's root to the folder that holds it"
        raise FileNotFoundError(msg)
    return found


def image(path: Path) -> tuple[Medium]:
    """The only medium of a question: an image file."""
    return (Medium("image", str(path)),)


def read_base64_table(file: Path, column: str, what: str) -> list[tuple[dict[str, str], Medium]]:
    """Read tab-separated rows with an image in each, which stays where it is.

    A row whose image is the ``index`` of another row shares that row's image, as VLMEvalKit's tables have it.

    Args:
        file: Written as pandas does, with quotes around what holds a tab, a quote or a line break.
        column: Of the images, in base64.
        what: What the file holds.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It lacks the column, or a row has fewer cells than the header.
    """
    records = _records(required(file, what))
    _, header = next(records, (0, b""))
    names = _cells(header)
    if column not in names:
        msg = f"got {file} with the columns {names}, expected {column!r} among them: is it {what}?"
        raise ValueError(msg)
    rows, images = [], dict[str, Medium]()
    for start, record in records:
        cells = _cells(record)
        if len(cells) != len(names):
            msg = f"{file}: got a row of {len(cells)} cells, expected {len(names)}: fetch the file again"
            raise ValueError(msg)
        row = dict(zip(names, cells, strict=True))
        text = row.pop(column)
        medium = images.get(text) or _inside(file, start, record, text)
        images[row.get("index", "")] = medium
        rows.append((row, medium))
    return rows


def _inside(file: Path, start: int, record: bytes, text: str) -> Medium:
    encoded = text.encode()
    return Medium("image", str(file), inside=Base64(start + record.index(encoded), len(encoded)))


def _records(file: Path) -> Iterator[tuple[int, bytes]]:
    """Each row's place in the file and its bytes, line breaks within quotes included."""
    with file.open("rb") as lines:
        start, record = 0, b""
        for line in lines:
            record += line
            if record.count(b'"') % 2 == 0:
                yield start, record
                start, record = start + len(record), b""
        if record:
            yield start, record


def _cells(record: bytes) -> list[str]:
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # images are long
    try:
        return next(csv.reader([record.decode()], delimiter="\t"), [])
    finally:
        csv.field_size_limit(limit)
