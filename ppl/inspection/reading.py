"""Read every record, and keep account of those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ppl.datamodules.mixture import iter_source
from ppl.datamodules.records import Record
from ppl.inspection.selection import Part, Selection


class Fault(NamedTuple):
    """Something wrong with a record or one of its media."""

    origin: str
    """``file:line``, or what comes nearest to it."""
    id: str
    """Of the record; empty where it could not be read."""
    medium: str
    """Path; empty where the record itself is at fault."""
    reason: str


class Contents(NamedTuple):
    """What a part holds."""

    part: Part
    records: list[Record]
    faults: list[Fault]
    """Of what could not be read."""


def read_parts(selection: Selection) -> Iterator[Contents]:
    """Read one part after the other.

    Args:
        selection: What to read.

    Raises:
        FileNotFoundError: An annotation file is missing.
    """
    for part in selection.parts:
        contents = Contents(part, list(part.records or ()), [])
        if part.records is not None:
            yield contents
            continue
        for found in iter_source(part.source, selection.media_root):
            error = found if isinstance(found, ValueError) else _unfit(found, part)
            if error is not None:
                contents.faults.append(fault_of(error, part))
            elif isinstance(found, Record):
                contents.records.append(found)
        yield contents


def _unfit(record: Record, part: Part) -> ValueError | None:
    try:
        if part.check is not None:
            part.check(record)
    except ValueError as error:
        return error
    return None


def fault_of(error: ValueError, part: Part) -> Fault:
    """Part the origin that `ppl.datamodules.records.problem` put before what it got.

    Args:
        error: In a record's place.
        part: That has the record.
    """
    origin, got, rest = str(error).partition(": got ")
    return Fault(origin, "", "", f"got {rest}") if got else Fault(part.source.path, "", "", str(error))
