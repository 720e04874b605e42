"""Validation samples shared out evenly among processes, none of them counting twice.

Lightning's own sampler repeats samples until every process has as many, and so they weigh more in the mean. Without
repeats processes have unequally many batches, and those that share out weights would wait for each other for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, DistributedSampler

from ppl.batches import BLANK, IGNORE_INDEX
from ppl.datamodules.processing import Sample


class EvenShares(DistributedSampler[int]):
    """Every ``num_replicas``-th place of a dataset, up to the first multiple of that number beyond its end.

    Lightning keeps a `DistributedSampler` as it is.

    Args:
        dataset: With blanks beyond its end.
        num_replicas: Processes.
        rank: This one.
    """

    def __init__(self, dataset: WithBlanks, num_replicas: int, rank: int) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=False)

    def __iter__(self) -> Iterator[int]:
        """Hand out the places of this process."""
        return iter(range(self.rank, self.total_size, self.num_replicas))


class WithBlanks(Dataset[Any]):
    """A dataset that has blanks beyond its end: its samples from the first on, which count nowhere.

    Args:
        dataset: The samples.
        blank: Makes a blank of a sample.
    """

    def __init__(self, dataset: Any, blank: Callable[[Any], Any]) -> None:  # noqa: ANN401  `Dataset` promises no length
        self.dataset = dataset
        self.blank = blank

    def __len__(self) -> int:
        """Count the samples, without blanks."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401  as of the dataset
        """A sample, or a blank."""
        sample = self.dataset[index % len(self)]
        return sample if index < len(self) else self.blank(sample)


def blank_sample(sample: Sample) -> Sample:
    """A sample without id or labels."""
    return sample._replace(labels=torch.full_like(sample.labels, IGNORE_INDEX), id=BLANK)
