"""What happens to a sample that cannot be loaded: the run stops, or another takes its place and the reason is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from torch.utils.data import Dataset

from ppl.datamodules.collate import check_fits
from ppl.datamodules.processing import Sample

FILE_NAME = "bad_samples.jsonl"
_MAX_TRIES = 16


class BadSample(NamedTuple):
    """A sample that could not be loaded."""

    number: int
    """Its index in the data set."""
    id: str
    origin: str
    """``file:line``, as far as the data set knows."""
    reason: str


@runtime_checkable
class Catalogue(Protocol):
    """A data set that tells about its samples without loading their media."""

    def set_epoch(self, epoch: int) -> None:
        """Learn the number of the epoch that is about to be loaded, in every worker process at once."""
        ...

    def kinds(self) -> list[str]:
        """What media each sample has."""
        ...

    def lengths(self) -> list[int]:
        """Positions of the language model that each takes, as nearly as is known without decoding."""
        ...

    def name(self, index: int) -> tuple[str, str]:
        """The id of one, and where it comes from."""
        ...


class Substitution:
    """Loads samples; in place of one that fails, the next of its kind that does not.

    Which one is a function of the data set alone: all ranks, epochs and resumed runs take the same.

    Args:
        dataset: What to load from.
        kinds: Of each sample.
        row_length: Most positions of a sample, where it has to fit into a packed row.
    """

    def __init__(self, dataset: Dataset[Sample], kinds: Sequence[str], row_length: int | None = None) -> None:
        self.dataset = dataset
        self.kinds = kinds
        self.row_length = row_length

    def load(self, index: int) -> tuple[Sample, list[BadSample]]:
        """Load a sample or its substitute, with those that failed.

        Raises:
            ValueError: One after the other fails.
        """
        bad: list[BadSample] = []
        cause: Exception | None = None
        following = (other % len(self.kinds) for other in range(index, index + len(self.kinds)))
        for other in (i for i in following if self.kinds[i] == self.kinds[index]):
            try:
                sample = self.dataset[other]
                check_fits(sample, self.row_length)
                return sample, bad
            except Exception as error:  # whatever it is, it is kept and told
                bad.append(self._describe(other, error))
                cause = error
            if len(bad) == _MAX_TRIES:
                break
        raise ValueError(
            f"got {len(bad)} samples of kind {self.kinds[index]!r} in a row that cannot be loaded, expected at least "
            f"one that can; mend the data, the first of them is {bad[0].origin or bad[0].number}: {bad[0].reason}"
        ) from cause

    def _describe(self, index: int, error: Exception) -> BadSample:
        sample_id, origin = self.dataset.name(index) if isinstance(self.dataset, Catalogue) else ("", "")
        return BadSample(index, sample_id, origin, f"{type(error).__name__}: {error}")


class Quarantine:
    """Keeps account of a process's bad samples: a line each in ``bad_samples.jsonl``, and a limit to their share.

    Args:
        folder: The run's folder; None writes nothing.
        num_samples: How many samples this process draws in an epoch.
        max_share: Of them may be bad.
    """

    def __init__(self, folder: str | Path | None, num_samples: int, max_share: float) -> None:
        self.file = None if folder is None else Path(folder) / FILE_NAME
        self.num_samples = num_samples
        self.max_share = max_share
        self.known: set[int] = set()
        """Bad samples met since the start of the run, resumptions included, by their index."""
        self._in_epoch: tuple[int, set[int]] = (-1, set())

    def add(self, bad: Sequence[BadSample], epoch: int) -> None:
        """Count and write down what a batch met.

        Raises:
            ValueError: Too many samples of the epoch are bad.
        """
        if not bad:
            return
        if self._in_epoch[0] != epoch:
            self._in_epoch = (epoch, set())
        for sample in bad:
            self._in_epoch[1].add(sample.number)
            if sample.number not in self.known:
                self.known.add(sample.number)
                self._write(sample)
        if len(self._in_epoch[1]) > self.max_share * self.num_samples:
            last = bad[-1]
            raise ValueError(
                f"got {len(self._in_epoch[1])} bad samples of {self.num_samples} in epoch {epoch}, expected a share "
                f"of at most max_bad_share={self.max_share:g}; mend the data"
                + (f", all are in {self.file}" if self.file is not None else "")
                + f", the last is {last.id!r} ({last.origin}): {last.reason}"
            )

    def _write(self, sample: BadSample) -> None:
        if self.file is None:
            return
        line = json.dumps(sample._asdict()) + "\n"
        if self.file.exists() and line in self.file.read_text():  # met by another process, or before a restart
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as file:  # one short write: lines of several processes do not mix
            file.write(line)
