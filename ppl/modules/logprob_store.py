"""Log-probabilities of a reference on disk: a line a pair, appended as they are computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ppl.batches import PreferenceBatch
from ppl.modules.gathering import gather_objects


class LogProbStore:
    """The summed log-probabilities of pairs under one model.

    Each process appends to a file of its own, so that one that dies loses the line it was at, at most. Processes need
    not share a disk.

    Args:
        folder: Holds the lines of any number of models.
        identity: Of this one.
        rank: Of this process.
    """

    def __init__(self, folder: Path, identity: str, rank: int) -> None:
        self.folder = folder / identity[:32]
        self.file = self.folder / f"{rank}.jsonl"
        self._known: dict[str, tuple[float, float]] = {}

    def read(self) -> None:
        """Learn what is on any process's disk; all processes call this together."""
        lines = [line for file in sorted(self.folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
        own = [found for line in lines if (found := _parsed(line)) is not None]
        self._known = {key: (chosen, rejected) for key, chosen, rejected in gather_objects(own)}

    def add(self, keys: list[str], totals: Float[Tensor, " r"]) -> None:
        """Write down a batch's better answers, then its worse ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        chosen, rejected = totals.double().tolist()[: len(keys)], totals.double().tolist()[len(keys) :]
        rows = list(zip(keys, chosen, rejected, strict=True))
        torn = self.file.exists() and not self.file.read_bytes().endswith(b"\n")  # by the death of an earlier run
        with self.file.open("a") as file:
            file.write("\n" * torn + "".join(json.dumps(row) + "\n" for row in rows))
        self._known |= {key: (better, worse) for key, better, worse in rows}

    def totals(self, keys: list[str]) -> Float[Tensor, " r"]:
        """Log-probabilities of better answers, then of worse ones."""
        pairs = [self._known[key] for key in keys]
        return torch.tensor([pair[side] for side in (0, 1) for pair in pairs], dtype=torch.float64)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __len__(self) -> int:
        return len(self._known)


def pair_keys(batch: PreferenceBatch) -> list[str]:
    """Name each pair by its tokens, its labels, the prompt that guides pooling, and its media.

    The tokens are those of the chat template, so that another one gives other names.

    Raises:
        ValueError: A medium has no stable identity: its frames are drawn at random.
    """
    return list(_keys(batch))


def _keys(batch: PreferenceBatch) -> Iterator[str]:
    half = len(batch["ids"])
    for number in range(half):
        media = [medium.key for medium in batch["media"] if medium.sample == number]
        if not all(media):
            msg = (
                f"got frames of pair {batch['ids'][number]!r} that are others in each epoch, expected the same for a "
                "reference that is computed beforehand: set data.sampler=null, or take another model.reference"
            )
            raise ValueError(msg)
        texts = []
        for row in (number, half + number):
            real = batch["attention_mask"][row] > 0
            texts += [batch["input_ids"][row][real].tolist(), batch["labels"][row][real].tolist()]
        yield hashlib.sha256(json.dumps([batch["prompts"][number], media, texts]).encode()).hexdigest()


def _parsed(line: str) -> tuple[str, float, float] | None:
    """A line's content; None of one that its process did not live to close."""
    try:
        key, chosen, rejected = json.loads(line)
    except ValueError:
        return None
    return key, chosen, rejected
