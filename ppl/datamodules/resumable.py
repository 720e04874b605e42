"""A loader that goes on after any batch: its position is in the checkpoint, and chance depends on nothing else.

Lightning 2.6 fetches no batch ahead of its step if the loader has a length. So the batches handed out are those trained
on, however many more the workers have prepared.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from ppl.batches import Batch, CountingLoader
from ppl.datamodules.bad_samples import Catalogue, Quarantine, Substitution
from ppl.datamodules.batch_loading import Loaded, PlannedBatches, combined_seed
from ppl.datamodules.batch_sampler import ResumableBatchSampler
from ppl.datamodules.collate import Packing
from ppl.datamodules.loading_report import LoadingCounts
from ppl.datamodules.processing import Sample


@dataclass(frozen=True)
class Loading:
    """How samples become training batches.

    Args:
        on_bad_sample: ``error`` stops the run; ``quarantine`` puts the next sample of the same kind in place of one
            that cannot be loaded, and writes its id, origin and reason to ``bad_samples.jsonl`` in the run's folder.
        max_bad_share: Share of an epoch's samples that may be bad before the run stops after all.
        group_by_length: Batches of similar lengths, in positions of the language model after pooling; pads less. Text
            is tokenised once for it at the start.
        interleave: Whether a batch may mix text, images, several images and videos; the papers' ablation does not.
        packing: ``none``: each sample has a row. ``rows``: samples of a batch share rows of at most ``row_length``
            positions, as few rows as they fit into. ``padding_free``: all samples of a batch are one row, however long;
            for flash attention, as other attention takes time and memory with the square of a row. No sample sees
            another, and the loss is the same. Validation, tests and predictions have a row for each sample.
        row_length: Most positions of a row of ``rows``; null: as many as the model can attend to.
    """

    on_bad_sample: Literal["error", "quarantine"] = "error"
    max_bad_share: float = 0.01
    group_by_length: bool = False
    interleave: bool = True
    packing: Literal["none", "rows", "padding_free"] = "none"
    row_length: int | None = None

    def __post_init__(self) -> None:
        """Refuse a length of rows that are not packed, or of nothing."""
        if self.row_length is not None and (self.packing != "rows" or self.row_length < 1):
            raise ValueError(
                f"got row_length={self.row_length} with packing={self.packing!r}, expected at least 1 with "
                "packing='rows', or null; set data.loading.packing"
            )

    @property
    def rows(self) -> Packing | None:
        """How the samples of a training batch share rows; None: they do not."""
        return None if self.packing == "none" else Packing(self.row_length, one_row=self.packing == "padding_free")


class ResumableLoader(CountingLoader):
    """Loads the batches of a sampler and knows how many of them were used.

    It sets torch's seed before each batch from seed, epoch, position and rank, so that dropout after a restart is what
    it would have been; `PlannedBatches` sets all seeds before each sample. Each worker prepares two batches ahead;
    where there is a GPU, in pinned memory, so that they are copied while it computes.

    Args:
        dataset: What to load from.
        sampler: What to load, and when.
        to_batch: Makes a batch of samples.
        num_workers: Loader processes; 0 loads in this one.
        quarantine: Counts bad samples; None: they are errors.
        substitution: Loads others in their place; None: they are errors.
    """

    def __init__(
        self,
        dataset: Dataset[Sample],
        sampler: ResumableBatchSampler,
        to_batch: Callable[[list[Sample]], Batch],
        num_workers: int,
        quarantine: Quarantine | None = None,
        substitution: Substitution | None = None,
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler  # where Lightning looks for set_epoch
        self.counts = LoadingCounts(quarantine)
        self._used = (0, 0)
        """Epoch, and the batches of it that were handed out."""
        self._run_seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))  # Lightning's record of seed_everything
        self._loader = DataLoader(
            PlannedBatches(dataset, sampler.seed, to_batch, substitution),
            sampler=sampler,
            batch_size=None,
            collate_fn=_as_it_is,  # pyright: ignore[reportArgumentType]  there is no list to join
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=num_workers > 0,
            generator=torch.Generator(),  # or the workers' seed would be drawn from the model's chance
        )

    def __len__(self) -> int:
        """Count the batches of a whole epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        """Hand out the epoch's batches from the position on; nothing is loaded before the first is asked for."""
        sampler, counts = self.sampler, self.counts
        position = sampler.start
        if isinstance(self.dataset, Catalogue):
            self.dataset.set_epoch(sampler.epoch)
        batches = iter(self._loader)  # draws the epoch's plan
        sampler.start = 0
        for loaded in batches:
            counts.add(loaded.batch)
            if counts.quarantine is not None:
                counts.quarantine.add(loaded.bad, loaded.epoch)
            torch.manual_seed(combined_seed(self._run_seed, sampler.seed, loaded.epoch, position, sampler.rank))
            position += 1
            self._used = (loaded.epoch, position)
            yield loaded.batch
        sampler.set_epoch(sampler.epoch + 1)

    def metrics(self) -> dict[str, float]:
        """What loading cost so far; see `LoadingCounts.metrics`."""
        return self.counts.metrics()

    def state_dict(self) -> dict[str, Any]:
        """Where training is, and what the position counts in, the same on every rank; and this one's bad samples."""
        epoch, position = self._used if self._used[0] == self.sampler.epoch else (self.sampler.epoch, 0)
        quarantine = self.counts.quarantine
        bad = [] if quarantine is None else sorted(quarantine.known)
        return {"epoch": epoch, "position": position, "layout": self._layout(), "bad_samples": bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last batch that was used.

        Raises:
            ValueError: In the middle of an epoch, batches are no longer what they were.
        """
        epoch, position, layout = state["epoch"], state["position"], state["layout"]
        if 0 < position < len(self) and layout != self._layout():
            raise ValueError(
                f"got a checkpoint after {position} batches of an epoch of {layout}, expected the data of this run, "
                f"{self._layout()}; resume with the same data, batch size, seed and number of processes, or from a "
                "checkpoint at an epoch's end"
            )
        self.sampler.epoch, self.sampler.start = self._used = (epoch, position)
        if self.counts.quarantine is not None:
            self.counts.quarantine.known |= set(state.get("bad_samples", []))

    def _layout(self) -> dict[str, int | bool]:
        sampler = self.sampler
        return {
            "num_samples": sampler.num_samples,
            "batch_size": sampler.batch_size,
            "world_size": sampler.world_size,
            "seed": sampler.seed,
            "group_by_length": sampler.lengths is not None,
            "interleave": sampler.kinds is None,
        }


class Place(NamedTuple):
    """Which process of a run this is."""

    rank: int = 0
    world_size: int = 1
    folder: str | None = None
    """The run's; None writes nothing."""


def resumable_loader(
    dataset: Dataset[Sample],
    to_batch: Callable[[list[Sample]], Batch],
    batch_size: int,
    num_workers: int,
    seed: int,
    loading: Loading,
    place: Place,
) -> ResumableLoader:
    """Load a data set for training.

    Raises:
        TypeError: Its samples' lengths or kinds are asked for, and it cannot tell them.
    """
    num_samples = len(dataset)  # pyright: ignore[reportArgumentType]  torch's Dataset does not declare it
    catalogue = dataset if isinstance(dataset, Catalogue) else None
    if catalogue is None and (loading.group_by_length or not loading.interleave):
        raise TypeError(
            f"got {loading} for {type(dataset).__name__}, which cannot tell kinds and lengths of its samples, expected "
            "interleave: true and group_by_length: false, or a data set with `Catalogue`'s methods"
        )
    sampler = ResumableBatchSampler(
        num_samples,
        batch_size,
        seed,
        place.rank,
        place.world_size,
        catalogue.kinds() if catalogue is not None and not loading.interleave else None,
        catalogue.lengths() if catalogue is not None and loading.group_by_length else None,
    )
    quarantine, substitution = None, None
    if loading.on_bad_sample == "quarantine":
        quarantine = Quarantine(place.folder, math.ceil(num_samples / place.world_size), loading.max_bad_share)
        kinds = [""] * num_samples if catalogue is None else catalogue.kinds()
        substitution = Substitution(dataset, kinds, loading.row_length)
    return ResumableLoader(dataset, sampler, to_batch, num_workers, quarantine, substitution)


def _as_it_is(loaded: Loaded) -> Loaded:
    return loaded
