"""``ppl data check``: can all of it be read, and how long will samples be?"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from ppl.datamodules.benchmark import BenchmarkDataModule
from ppl.datamodules.lengths import record_kind
from ppl.inspection.bar import bar
from ppl.inspection.lengths import Length, measure, recipe_processor
from ppl.inspection.media import Opener, find_broken
from ppl.inspection.reading import Contents, Fault, read_parts
from ppl.inspection.report import show_counts, show_faults, show_lengths
from ppl.inspection.selection import Selection, select_files, select_recipe

_NO_RECIPE = "they are those of a recipe's model: ppl data check -c RECIPE --data.train_files='[…]'"


def run_check(options: argparse.Namespace) -> None:
    """Check what the command line names, and exit with 0 if all is well, 1 if something is broken, 2 if misused."""
    console = Console(highlight=False)
    with misuse("check"):
        selection = select(options)
        opener = Opener(None if selection.data is None else selection.data.decoder, options.workers)
        report = None if options.report is None else new_file(options.report, overwrite=True)
        lengths_missing, processor = _NO_RECIPE, None
        if isinstance(selection.data, BenchmarkDataModule):
            lengths_missing = "a benchmark's are those of its prompts, which are made from what is sampled"
        elif selection.recipe is not None and selection.data is not None:
            try:
                processor = recipe_processor(selection.recipe, selection.data)
            except FileNotFoundError as error:
                lengths_missing = str(error)
    contents = read_all(selection, "check")
    with bar("media opened") as advance:
        faults = [fault for part in contents for fault in part.faults] + find_broken(contents, opener, advance)
    kinds = [Counter(record_kind(record) for record in part.records) for part in contents]
    show_counts(console, [part.part.name for part in contents], kinds, [len(part.faults) for part in contents])
    if processor is None:
        console.print(f"Lengths are left out: {lengths_missing}", markup=False, soft_wrap=True)
    else:
        lengths, too_long = measure(contents, processor)
        faults += too_long
        every: list[Length] = [length for of_part in lengths for length in of_part]
        show_lengths(console, every, processor.inputs.max_length)
    finish(console, faults, report)


def select(options: argparse.Namespace) -> Selection:
    """Find out what the command line names.

    Args:
        options: With ``files`` and ``media_root``, or ``recipe``.

    Raises:
        ValueError: Neither or both are there.
    """
    if options.recipe and options.media_root is not None:
        raise ValueError("got --media-root beside a recipe, expected it in the recipe: --data.media_root=FOLDER")
    if not options.recipe and not options.files:
        raise ValueError("got nothing to look at, expected annotation files, or a recipe with -c; name one")
    return select_recipe(options.recipe) if options.recipe else select_files(options.files, options.media_root)


def read_all(selection: Selection, command: str) -> list[Contents]:
    """Read every record, with a bar.

    Args:
        selection: What to read.
        command: That asks for it.
    """
    with misuse(command), bar("annotation files read") as advance:
        contents: list[Contents] = []
        for part in read_parts(selection):
            contents.append(part)
            advance(len(contents), len(selection.parts))
    return contents


def finish(console: Console, faults: Sequence[Fault], report: Path | None) -> None:
    """Tell what is broken, and exit with 1 if anything is.

    Args:
        console: To tell it to.
        faults: All of them.
        report: JSON lines to write, one for each.
    """
    if report is not None:
        lines = (json.dumps(fault._asdict(), ensure_ascii=False) + "\n" for fault in faults)
        report.write_text("".join(lines), encoding="utf-8")
    show_faults(console, faults, report)
    if faults:
        raise SystemExit(1)


def new_file(name: str, *, overwrite: bool) -> Path:
    """Make sure before the work that a file can be written after it.

    Args:
        name: Of the file.
        overwrite: It may exist.

    Raises:
        ValueError: It exists, or its folder does not.
    """
    path = Path(name)
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"got {name}, expected a file in a folder that exists; make {path.parent}, or name another")
    if path.exists() and not overwrite:
        raise ValueError(f"got {name}, which exists, expected a new file; name another, or add --overwrite")
    return path


@contextmanager
def misuse(command: str) -> Iterator[None]:
    """Exit with 2 where the command line, or what it names, is at fault.

    Args:
        command: Of ``ppl data``.
    """
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        if os.environ.get("PPL_TRACEBACK") == "1":
            raise
        sys.stderr.write(f"ppl data {command}: {error}\n")
        raise SystemExit(2) from error
