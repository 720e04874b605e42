"""Find the rows of runs in files and folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ppl.evaluation.rows import Row, read_rows


def row_files(folder: Path) -> list[Path]:
    """The files that a run's processes wrote their answers to."""
    return sorted(folder.glob("rows-*.jsonl"))


def read_runs(paths: Sequence[Path]) -> list[list[Row]]:
    """Read the rows of each run: of one benchmark, asked by one protocol of one model.

    Raises:
        FileNotFoundError: There is no such file, or a folder has none.
        ValueError: No question is answered there.
    """
    runs: dict[tuple[str, str, str], list[Row]] = {}
    for path in paths:
        files = row_files(path) if path.is_dir() else [path]
        if not files or not files[0].exists():
            msg = f"got {path}, which holds no answers; expected rows-*.jsonl of `ppl predict`, or their folder"
            raise FileNotFoundError(msg)
        rows = [row for file in files for row in read_rows(file)]
        if not rows:
            msg = f"got {path} without a whole line, expected answers: run `ppl predict` again, or leave it out"
            raise ValueError(msg)
        for row in rows:
            runs.setdefault((row.benchmark, repr(row.protocol), row.model), []).append(row)
    return list(runs.values())


def read_run(path: Path) -> list[Row]:
    """Read the rows of a file or folder with one run.

    Raises:
        FileNotFoundError: There is none.
        ValueError: There are several.
    """
    runs = read_runs([path])
    if len(runs) != 1:
        names = ", ".join(f"{rows[0].benchmark} of {rows[0].model or 'a model'}" for rows in runs)
        msg = f"got {len(runs)} runs in {path} ({names}), expected one: name the file of one"
        raise ValueError(msg)
    return runs[0]
