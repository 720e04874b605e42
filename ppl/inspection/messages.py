"""``ppl data convert``: the same records as JSON lines of messages, the form that most tools read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from ppl.datamodules.mixture import iter_source
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record, Turn
from ppl.datamodules.storage.opening import is_url
from ppl.inspection.bar import bar
from ppl.inspection.check import finish, misuse, new_file, select
from ppl.inspection.reading import Fault, fault_of


def run_convert(options: argparse.Namespace) -> None:
    """Convert what the command line names; exits with 1 if some records cannot be read, 2 if misused."""
    console = Console(highlight=False)
    faults: list[Fault] = []
    with misuse("convert"), bar("annotation files read") as advance:
        selection = select(options)
        target = new_file(options.output, overwrite=options.overwrite)
        report = None if options.report is None else new_file(options.report, overwrite=True)
        folder = Path(options.media_root or target.parent)
        part_file, count = target.with_name(f"{target.name}.part"), 0
        with part_file.open("w", encoding="utf-8") as file:
            for index, part in enumerate(selection.parts):
                for found in iter_source(part.source, selection.media_root):
                    if isinstance(found, ValueError):
                        faults.append(fault_of(found, part))
                    else:
                        file.write(json.dumps(as_messages(found, folder), ensure_ascii=False) + "\n")
                        count += 1
                advance(index + 1, len(selection.parts))
        part_file.replace(target)
    root = "" if options.media_root is None else f"; relative paths in it start from media_root {options.media_root}"
    console.print(
        f"{count} records are in {target}, {len(faults)} could not be read{root}", markup=False, soft_wrap=True
    )
    finish(console, faults, report)


def as_messages(record: Record, folder: Path) -> dict[str, Any]:
    """Write a record in the messages form; reading it gives the same record again, but for where it comes from.

    Args:
        record: A checked one.
        folder: Where paths inside it start from; others are written whole.
    """
    media = iter(record.media)
    item: dict[str, Any] = {"id": record.id, "messages": [_message(turn, media, folder) for turn in record.turns]}
    if record.rejected is not None:
        item["rejected_response"] = record.rejected
    return item | ({"category": record.category} if record.category else {})


def _message(turn: Turn, media: Iterator[MediumRef], folder: Path) -> dict[str, Any]:
    """Part the text where media are; ``separator`` only where text and media do not each have lines of their own."""
    first, *others = turn.text.split(PLACEHOLDER)
    if not others and first == first.strip():
        return {"role": turn.role, "content": first}
    parts = [{"type": "text", "text": first}]
    for text in others:
        parts += [_part(next(media), folder), {"type": "text", "text": text}]
    parts = [part for part in parts if part.get("text") != ""]
    stripped = [part | {"text": part["text"].strip()} if "text" in part else part for part in parts]
    stripped = [part for part in stripped if part.get("text") != ""]
    if "\n".join(part.get("text", PLACEHOLDER) for part in stripped) == turn.text:
        return {"role": turn.role, "content": stripped}
    return {"role": turn.role, "separator": "", "content": parts}


def _part(ref: MediumRef, folder: Path) -> dict[str, Any]:
    names = [_name(path, folder) for path in ref.frames or (ref.path,)]
    part: dict[str, Any] = {"type": ref.kind, ref.kind: names if ref.frames else names[0]}
    times = {"start": ref.start, "end": ref.end, "fps": ref.fps}
    told = {} if ref.inside is None else asdict(ref.inside)
    inside = {key: value for key, value in told.items() if value is not None and value is not False}
    part |= {key: time for key, time in times.items() if time is not None}
    return part | ({"inside": inside} if inside else {})


def _name(path: str, folder: Path) -> str:
    if is_url(path):
        return path
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else str(Path(path).absolute())
