"""What every benchmark can do: read its questions from the files its authors distribute."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from ppl.evaluation.items import Item


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


def required(path: Path, what: str) -> Path:
    """Give back a file or folder that is there.

    Raises:
        FileNotFoundError: It is not.
    """
    if not path.exists():
        msg = f"got no {path}, expected {what}: set the benchmark's root to the folder that holds it"
        raise FileNotFoundError(msg)
    return path
