"""The different media of a data set, each once, as the vision tower sees them.

Axes: f frames and tiles | S side of the resized square.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from ppl.batches import KeptFeatures, MediaKind, MediumInfo
from ppl.datamodules.instruction import RecordDataset
from ppl.datamodules.kept_media import write_note
from ppl.datamodules.lengths import media_infos
from ppl.datamodules.medium_keys import key_of
from ppl.datamodules.processing import Sample
from ppl.datamodules.records import MediumRef
from ppl.datamodules.synthetic.instruction import SyntheticQuestions


class Loaded(NamedTuple):
    """One medium, ready for the tower, or why it is not."""

    info: MediumInfo
    frames: UInt8[Tensor, "f 3 S S"] | None
    """None if its features are kept already, or cannot be had."""
    problem: str = ""
    """Why they cannot be had."""


class Media(Dataset[Loaded]):
    """Media by number; nothing is decoded whose features are kept already."""

    infos: list[MediumInfo]
    """What is known of each without decoding: how many frames at most, and no key."""

    def __init__(self) -> None:
        self.kept: KeptFeatures | None = None
        """Features that are there already."""

    def __len__(self) -> int:
        """Count the media."""
        return len(self.infos)

    @abstractmethod
    def __getitem__(self, index: int) -> Loaded:
        """Load one medium."""


class RecordMedia(Media):
    """Media of records; one that cannot be read is told, and stops nothing."""

    def __init__(self, dataset: RecordDataset) -> None:
        super().__init__()
        self.processor = dataset.processor
        known: dict[tuple[MediumRef, MediaKind], MediumInfo] = {}
        for record in dataset.records:
            for ref, info in zip(record.media, media_infos(record, dataset.processor), strict=True):
                known.setdefault((ref, info.kind), info)
        self.refs, self.infos = [ref for ref, _ in known], list(known.values())

    def __getitem__(self, index: int) -> Loaded:
        """Read one medium, unless its features are kept."""
        ref, info, by = self.refs[index], self.infos[index], self.processor
        try:
            key = key_of(ref, info.kind, by.inputs, by.num_frames, by.sampler, by.decoder)
            if self.kept is not None and self.kept.has(key):
                return Loaded(info._replace(key=key), None)
            prepared = by.resize(by.read(ref), 2 if info.kind == "multi_image" else 1)
            if self.kept is not None:
                write_note(self.kept, prepared.info, prepared.times, prepared.duration)
        except Exception as error:  # whatever it is, it is counted and told
            return Loaded(info, None, f"{ref.path}: {type(error).__name__}: {error}")
        return Loaded(prepared.info, prepared.frames)


class SyntheticMedia(Media):
    """Videos of the synthetic world, which are in memory."""

    def __init__(self, dataset: SyntheticQuestions) -> None:
        super().__init__()
        self.dataset = dataset
        processor = dataset.processor
        side = processor.inputs.image_size
        info = MediumInfo(0, "video", processor.num_frames, (side, side), "")
        self.infos = [info] * min(len(dataset.scenes), len(dataset))  # the first questions are about one video each

    def __getitem__(self, index: int) -> Loaded:
        """Take the video of a question."""
        sample = self.dataset[index]
        [info] = sample.media
        is_kept = self.kept is not None and self.kept.has(info.key)
        return Loaded(info, None if is_kept else sample.frames)


def media_of(dataset: Dataset[Sample]) -> Media:
    """The different media of a data set.

    Raises:
        ValueError: It is of a kind whose media are not known beforehand.
    """
    if isinstance(dataset, RecordDataset):
        return RecordMedia(dataset)
    if isinstance(dataset, SyntheticQuestions):
        return SyntheticMedia(dataset)
    msg = (
        f"got data of {type(dataset).__name__}, expected annotation files or the synthetic world, whose media are "
        "known beforehand: leave these features to the first epoch, which keeps them as well"
    )
    raise ValueError(msg)
