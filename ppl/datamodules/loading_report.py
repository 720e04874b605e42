"""What loading costs: padding, and samples that had to be replaced."""

from __future__ import annotations

from ppl.batches import Batch
from ppl.datamodules.bad_samples import Quarantine
from ppl.functional.packing import segment_lengths


class LoadingCounts:
    """What loading cost so far, in this process.

    Args:
        quarantine: Counts the bad samples; None where they are errors.
    """

    def __init__(self, quarantine: Quarantine | None) -> None:
        self.quarantine = quarantine
        self.num_positions = 0
        self.num_filled = 0
        self.num_unpacked = 0
        """Positions the same batches would have had with a row for each sample."""

    def add(self, batch: Batch) -> None:
        """Count the positions of a batch."""
        lengths = segment_lengths(batch["attention_mask"])
        self.num_positions += batch["attention_mask"].numel()
        self.num_filled += int(lengths.sum())
        self.num_unpacked += len(lengths) * int(lengths.max())

    def metrics(self) -> dict[str, float]:
        """Since the start: share of positions that are padding, and would be without packing; bad samples met."""
        metrics = {"data/padding": _padding(self.num_filled, self.num_positions)}
        if self.num_unpacked != self.num_positions:
            metrics["data/padding_unpacked"] = _padding(self.num_filled, self.num_unpacked)
        if self.quarantine is not None:
            metrics["data/bad_samples"] = float(len(self.quarantine.known))
        return metrics


def _padding(num_filled: int, num_positions: int) -> float:
    return 1 - num_filled / num_positions if num_positions else 0.0
