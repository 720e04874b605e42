"""Folders that appear when they are complete, and replace only what the same program wrote."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Kind(NamedTuple):
    """What a program writes, and how its user allows to replace it."""

    name: str
    """In messages: ``converted model``."""
    marker: str
    """A file that every such folder has."""
    option: str
    """The option that replaces a folder."""


@contextmanager
def new_folder(folder: Path, kind: Kind, *, overwrite: bool) -> Iterator[Path]:
    """Give a folder to write into, which gets its name when everything is in it, and is removed if that fails.

    Raises:
        ValueError: As `check_absent`.
    """
    check_absent(folder, kind, overwrite=overwrite)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except BaseException:  # Ctrl-C too: it goes on, and leaves nothing unfinished behind
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_absent(folder: Path, kind: Kind, *, overwrite: bool) -> None:
    """Refuse to write over anything but an earlier folder of the same kind, and that only if told to.

    Raises:
        ValueError: Something else is there.
    """
    if not folder.exists():
        return
    if not (folder / kind.marker).is_file():
        msg = f"got {folder}, which exists and is no {kind.name} (no {kind.marker}); name a new folder, or remove it"
        raise ValueError(msg)
    if not overwrite:
        msg = f"got {folder}, which exists; add {kind.option} to write it again, or name a new folder"
        raise ValueError(msg)
