"""Read the lists of questions that benchmarks come in, and find the videos they are about."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppl.evaluation.benchmark import readable, required


def read_json_list(file: Path, what: str, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Read a JSON list of objects.

    Args:
        file: Where it is.
        what: What it holds, for messages.
        fields: That every object has.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is something else.
    """
    with required(file, what).open(encoding="utf-8") as stream, readable(file, what):
        rows = json.load(stream)
    if not isinstance(rows, list):
        msg = f"got {file} with a JSON {type(rows).__name__}, expected a list: is it another file?"
        raise ValueError(msg)
    _check(file, rows, fields)
    return rows


def read_csv(file: Path, what: str, fields: Sequence[str]) -> list[dict[str, str]]:
    """Read a table with a line of names; arguments and errors are those of `read_json_list`."""
    with required(file, what).open(encoding="utf-8", newline="") as stream, readable(file, what):
        rows = list(csv.DictReader(stream))
    _check(file, rows, fields)
    return rows


def _check(file: Path, rows: Sequence[object], fields: Sequence[str]) -> None:
    for index, row in enumerate(rows):
        lacking = [name for name in fields if not isinstance(row, dict) or name not in row]
        if lacking:
            msg = f"got {file} whose entry {index} lacks {lacking}, expected {list(fields)}: is it another file?"
            raise ValueError(msg)


def find_video(folder: Path, name: str, endings: Sequence[str] = ("mp4", "mkv", "webm", "avi", "mov", "gif")) -> str:
    """Find the file of a video that is named without its ending, or its folder of frames.

    Returns:
        With the first ending where nothing is there, so that it is reported as missing.
    """
    for path in (folder / name, *(folder / f"{name}.{ending}" for ending in endings)):
        if path.exists():
            return str(path)
    return str(folder / f"{name}.{endings[0]}")
