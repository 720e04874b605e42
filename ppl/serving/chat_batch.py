"""Answer a file of questions: a line of JSON for each, and never the same one twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ppl.datamodules.records import MediumRef
from ppl.serving.chat_output import ChatOutput, told
from ppl.serving.dialogue import Dialogue
from ppl.serving.question_rows import QuestionRow


def answer_rows(
    dialogue: Dialogue,
    rows: Sequence[QuestionRow | ValueError],
    output: ChatOutput,
    file: Path | None = None,
    refs: Sequence[MediumRef] = (),
) -> int:
    """Answer each row in a conversation of its own, and write a row for it as soon as it is answered.

    What goes wrong with one is in its row, as ``error``, and the next is asked. Questions about the same media that
    follow on each other encode them once.

    Args:
        dialogue: Begun anew for each row.
        rows: What `read_questions` gave.
        output: Shows what is going on, and the answers if there is no file.
        file: Gets the answers. What it holds already is not asked again, unless it is an error.
        refs: Media of rows that name none.

    Returns:
        How many rows have no answer.

    Raises:
        ValueError: The file holds something else, or answers to other questions or of another model.
    """
    done = set() if file is None else _finished(file, dialogue, rows)
    failed: list[str] = []
    with _writer(file, output) as write, _bar(output, len(rows)) as advance:
        for row in rows:
            if isinstance(row, ValueError) or row.id not in done:
                answered = _answered(dialogue, row, refs)
                failed += [answered["error"]] if "error" in answered else []
                write(answered)
            advance()
    output.say(f"{len(rows) - len(done) - len(failed)} answered, {len(done)} there already, {len(failed)} failed")
    if failed:
        output.refuse(ValueError(f"the first that failed: {failed[0]}"))
    return len(failed)


def _answered(dialogue: Dialogue, row: QuestionRow | ValueError, refs: Sequence[MediumRef]) -> dict[str, Any]:
    if isinstance(row, ValueError):
        return {"id": None, "error": told(row)}
    of_row = {"id": row.id, "model": dialogue.model, "pooler": dialogue.pooler_name, "budget": dialogue.budget}
    reference = {} if row.reference is None else {"reference": row.reference}
    try:
        dialogue.begin(row.turns, row.media or refs)
        for question in row.questions:
            for _ in dialogue.ask(question):
                pass
    except Exception as error:  # of any kind: it is this row's, is kept in it and counted, and the others go on
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        if isinstance(error, torch.OutOfMemoryError):
            dialogue.survive(error)
        return {**of_row, **_asked(row), **reference, "error": kind + told(error)}
    said = {"turns": list(dialogue.rows)} if len(row.questions) > 1 else dialogue.rows[0]
    return {**of_row, **_asked(row), **reference, **said}


def _asked(row: QuestionRow) -> dict[str, Any]:
    return {"questions": row.asked} if len(row.questions) > 1 else {"question": row.asked[0]}


def _finished(file: Path, dialogue: Dialogue, rows: Sequence[QuestionRow | ValueError]) -> set[str]:
    """The ids that a file has answers to; its errors, and a half-written last line, are taken out of it."""
    if not file.exists():
        return set()
    asked = {row.id: _asked(row) for row in rows if isinstance(row, QuestionRow)}
    lines = file.read_bytes().splitlines(keepends=True)
    kept, done = [], set()
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith(b"\n"):
            break  # of a run that was killed
        found = _row_of(line, f"{file}:{number}")
        if "error" in found:
            continue
        own = {"model": dialogue.model, "pooler": dialogue.pooler_name, "budget": dialogue.budget}
        own |= asked.get(found["id"], {})
        theirs = {key: found.get(key) for key in own}
        if theirs != own:
            msg = f"{file}:{number}: got {theirs}, expected {own}: name another file with -o, or remove this one"
            raise ValueError(msg)
        kept.append(line)
        done.add(found["id"])
    if len(kept) < len(lines):
        partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
        partial.write_bytes(b"".join(kept))
        partial.replace(file)
    return done & asked.keys()


def _row_of(line: bytes, origin: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "id" not in found or not {"answer", "turns", "error"} & found.keys():
        msg = f"{origin}: got a line that is no answer, expected those of `ppl chat --questions`: name another file"
        raise ValueError(msg)
    return found


@contextmanager
def _writer(file: Path | None, output: ChatOutput) -> Iterator[Callable[[dict[str, Any]], None]]:
    if file is None:
        yield output.row
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:

        def write(row: dict[str, Any]) -> None:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            stream.flush()

        yield write


@contextmanager
def _bar(output: ChatOutput, total: int) -> Iterator[Callable[[], None]]:
    console = output.console
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("questions", total=total)
        yield lambda: progress.advance(task)
