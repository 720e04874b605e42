"""What every benchmark can do: read its questions from the files its authors distribute."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ppl.evaluation.items import Item
from ppl.evaluation.protocol import Protocol

_NUM_SHOWN = 10


class Benchmark(ABC):
    """A set of questions. Arguments say where its files are and which part of it is asked.

    What its authors' server takes of a test split is made by its protocols, which read answers: `Protocol.submission`.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name, with what sets this part of it apart: ``egoschema-subset``."""

    @abstractmethod
    def items(self) -> list[Item]:
        """Read the questions; media are not opened.

        Raises:
            FileNotFoundError: Its files are not where it was told.
            ValueError: They are not what its authors distribute.
        """


def read_items(benchmark: Benchmark) -> list[Item]:
    """Read a benchmark's questions.

    Raises:
        FileNotFoundError: Its files are not where it was told.
        ValueError: They are not what its authors distribute: they lack something that it reads, say.
    """
    try:
        return benchmark.items()
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        msg = (
            f"got files of {benchmark.name} in which it does not find what it reads ({type(error).__name__}: {error}), "
            "expected those that its authors distribute: fetch them again, or are they of another version?"
        )
        raise ValueError(msg) from error


@contextmanager
def readable(file: Path, what: str) -> Iterator[None]:
    """Name a file that is cut off, or no such file, to whoever reads it.

    Raises:
        ValueError: JSON, CSV, Parquet or UTF-8 it is not.
    """
    try:
        yield
    except (ValueError, csv.Error) as error:
        msg = f"got {file}, which cannot be read ({error}), expected {what}: fetch it again, or name another root"
        raise ValueError(msg) from error


def missing_files(items: Sequence[Item], protocol: Protocol) -> list[tuple[Item, str]]:
    """Find what prompts are made from and is not there, subtitles for one; media are looked for elsewhere."""
    return [(item, file) for item in items for file in protocol.files(item) if not Path(file).exists()]


def check_files_exist(items: Sequence[Item], protocol: Protocol) -> None:
    """Raise FileNotFoundError listing what prompts are made from and is not there."""
    missing = list(dict.fromkeys(file for _, file in missing_files(items, protocol)))
    if missing:
        shown = "".join(f"\n  {file}" for file in missing[:_NUM_SHOWN])
        rest = f"\n  and {len(missing) - _NUM_SHOWN} more" if len(missing) > _NUM_SHOWN else ""
        msg = (
            f"got {len(missing)} files missing that prompts are made from, expected all of them; fetch them, switch "
            f"subtitles off, or leave their questions out by data.allow_missing:{shown}{rest}"
        )
        raise FileNotFoundError(msg)


def required(path: Path, what: str) -> Path:
    """Give back a file or folder that is there.

    Raises:
        FileNotFoundError: It is not.
    """
    if not path.exists():
        msg = f"got no {path}, expected {what}: set the benchmark's root to the folder that holds it"
        raise FileNotFoundError(msg)
    return path
