"""What a loader process does: samples of a plan, with the chance that is theirs, and a batch of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import Dataset

from ppl.batches import Batch
from ppl.datamodules.bad_samples import BadSample, Substitution
from ppl.datamodules.batch_sampler import BatchPlan
from ppl.datamodules.processing import Sample


class Loaded(NamedTuple):
    """What a worker hands over."""

    batch: Batch
    bad: list[BadSample]
    epoch: int


class PlannedBatches(Dataset[Loaded]):
    """Batches by plan, whole.

    All seeds are set before each sample, from seed, epoch and index.

    Args:
        dataset: What to load from.
        seed: The run's.
        to_batch: Makes a batch of samples.
        substitution: Loads others in place of bad samples; None: they are errors.
    """

    def __init__(
        self,
        dataset: Dataset[Sample],
        seed: int,
        to_batch: Callable[[list[Sample]], Batch],
        substitution: Substitution | None,
    ) -> None:
        self.dataset = dataset
        self.seed = seed
        self.to_batch = to_batch
        self.substitution = substitution

    def __getitem__(self, plan: BatchPlan) -> Loaded:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Load a plan's samples and make them a batch."""
        samples: list[Sample] = []
        bad: list[BadSample] = []
        for index in plan.indices:
            with isolate_rng(include_cuda=False):
                seed = combined_seed(self.seed, plan.epoch, index)
                torch.default_generator.manual_seed(seed)
                random.seed(seed)
                np.random.seed(seed % 2**32)  # what libraries draw from
                sample, failed = (
                    (self.dataset[index], []) if self.substitution is None else self.substitution.load(index)
                )
            samples.append(sample)
            bad += failed
        return Loaded(self.to_batch(samples), bad, plan.epoch)


def combined_seed(*numbers: int) -> int:
    """One seed of several numbers; others with any of them changed are independent of it."""
    return int(
        np.random.SeedSequence([number % 2**64 for number in numbers]).generate_state(1, np.uint64)[0] >> np.uint64(1)
    )
