"""Preference tuning from annotation files: a better and a worse answer about media that are read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch.utils.data import DataLoader, Dataset

from ppl.batches import BLANK, Batch, InputSpec, PreferenceBatch
from ppl.datamodules.bad_samples import Catalogue, Substitution
from ppl.datamodules.base import ConversationDataModule, Split
from ppl.datamodules.collate import Packing, PaddingSide, collate
from ppl.datamodules.instruction import InstructionDataModule, RecordDataset, check_media_exist
from ppl.datamodules.mixture import Source, read_mixture
from ppl.datamodules.processing import PreparedMedium, Processor, Sample
from ppl.datamodules.records import Record, Turn, problem


class PairSample(Sample):
    """The sample of a better answer, with that of the worse one beside it."""

    rejected: Sample
    """Text alone: its media are the better one's."""

    @classmethod
    def of(cls, processor: Processor, record: Record, media: Sequence[PreparedMedium]) -> PairSample:
        """Make both samples of a pair.

        Args:
            processor: Makes samples that fit the model.
            record: A preference pair.
            media: Its media, resized.
        """
        assert record.rejected is not None
        turns = [*record.turns[:-1], Turn("assistant", record.rejected)]
        pair = cls(*processor.assemble(replace(record, rejected=None), media))
        rejected = processor.assemble(replace(record, turns=turns, rejected=None), media)
        pair.rejected = rejected._replace(frames=rejected.frames[:0], media=[])
        return pair


def collate_pairs(samples: Sequence[Sample], inputs: InputSpec, padding_side: PaddingSide = "right") -> PreferenceBatch:
    """Pad the texts of pairs to the longest and concatenate the media of each pair.

    Args:
        samples: Of `PairSample`.
        inputs: The model's demands.
        padding_side: As `collate` has it.
    """
    worse = [cast("PairSample", sample).rejected for sample in samples]
    both, number = collate([*samples, *worse], inputs, padding_side), len(samples)
    prompt_ids = both["prompt_ids"]
    pairs: Batch = {
        **both,
        "prompts": both["prompts"][:number],
        "prompt_ids": None if prompt_ids is None else prompt_ids[:number],
        "ids": both["ids"][:number],
        "categories": both["categories"][:number],
        "answers": both["answers"][:number],
    }
    return PreferenceBatch(**pairs, rejected=both["answers"][number:])


def check_pair(record: Record) -> None:
    """Raise ValueError, naming the record's origin, if it is no question with a better and a worse answer."""
    if record.rejected is None:
        raise problem(
            record.origin,
            "a conversation without a worse answer",
            "'prompt', 'chosen' and 'rejected'",
            "add the worse answer, or fine-tune on it (SFT)",
        )
    if sum(turn.role == "assistant" for turn in record.turns) != 1:
        raise problem(
            record.origin, "several answers before the pair", "one question", "tell earlier turns in the prompt"
        )


class PairLoading(ConversationDataModule):
    """Loads pairs to train and to validate on; prompts to predict, as any data module does."""

    def reference_loaders(self, rank: int, world_size: int) -> list[DataLoader[Sample]]:
        """Load every pair of the splits that are set up, in order: what a reference is computed of beforehand.

        Args:
            rank: This process, of those that share the work.
            world_size: How many they are.
        """
        return [
            DataLoader(
                _Share(dataset, rank, world_size, substitute=split == "train" and self._quarantines()),
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                collate_fn=self._to_batch("right"),
                generator=torch.Generator(),  # or the workers' seed would be drawn from the model's chance
            )
            for split, dataset in self._datasets.items()
            if split in ("train", "val")
        ]

    def _quarantines(self) -> bool:
        return self.loading.on_bad_sample == "quarantine"

    def _blank(self, sample: Sample) -> PairSample:
        """A pair without id; its labels stay, as its answers have to have tokens."""
        assert isinstance(sample, PairSample)
        blank = sample._replace(id=BLANK)
        blank.rejected = sample.rejected
        return blank

    def _to_batch(self, side: PaddingSide, packing: Packing | None = None) -> Callable[[list[Sample]], Batch]:
        if side == "left":
            return super()._to_batch(side)
        if packing is not None:
            raise ValueError(
                f"got packing={self.loading.packing!r} for preference pairs, expected 'none': the answers of a pair "
                "have a row each; set data.loading.packing"
            )
        return partial(collate_pairs, inputs=self.inputs)


class PairDataset(RecordDataset):
    """Pairs whose media are on disk, and are read once; an error in one of them names its record.

    Args:
        records: Checked pairs.
        processor: Makes the samples.
    """

    def __init__(self, records: Sequence[Record], processor: Processor) -> None:
        super().__init__(records, processor, for_generation=False)

    def _sample(self, record: Record) -> PairSample:
        return PairSample.of(self.processor, record, self.processor.load(record.media))


class PreferenceDataModule(PairLoading, InstructionDataModule):
    """Trains on files of preference pairs, such as LLaVA-Hound's ``sft_dpo_17k.jsonl`` (docs/data.md has the form).

    Arguments are those of `InstructionDataModule`. ``predict_files`` may hold conversations as well as pairs.
    """

    def dataset(self, split: Split) -> RecordDataset:
        """Read and check the pairs of a split."""
        if split == "predict" or not self.has_split(split):
            return super().dataset(split)
        sources = self.sources if split == "train" else []
        records = read_mixture(sources or [Source(file) for file in self.files[split]], self.media_root, self.seed)
        for record in records:
            check_pair(record)
        check_media_exist(records)
        random = self.sampler is not None and self.sampler.is_random and split != "train"
        sampler = None if random else self.sampler
        return PairDataset(records, Processor(self.inputs, self.template, self.num_frames, sampler, self.decoder))


class _Share(Dataset[Sample]):
    """Every ``world_size``-th sample from ``rank`` on, or what training takes in its place."""

    def __init__(self, dataset: Dataset[Sample], rank: int, world_size: int, *, substitute: bool) -> None:
        number = len(dataset)  # pyright: ignore[reportArgumentType]  torch's Dataset does not declare it
        kinds = dataset.kinds() if isinstance(dataset, Catalogue) else [""] * number
        self.dataset = dataset
        self.substitution = Substitution(dataset, kinds) if substitute else None
        self.indices = range(rank, number, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        place = self.indices[index]
        return self.dataset[place] if self.substitution is None else self.substitution.load(place)[0]
