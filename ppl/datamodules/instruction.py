"""Instruction tuning from annotation files: images, several images, videos and plain text in one batch."""

from __future__ import annotations

from collections.abc import Sequence

from torch.utils.data import DataLoader, Dataset

from ppl.datamodules.base import ConversationDataModule, Split
from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.frame_sampling import FrameSampler
from ppl.datamodules.lengths import record_kind, record_lengths
from ppl.datamodules.missing_media import check_media_exist
from ppl.datamodules.mixture import Source, read_mixture
from ppl.datamodules.processing import Processor, Sample
from ppl.datamodules.records import Record, check_answered
from ppl.datamodules.resumable import Loading, ResumableLoader
from ppl.datamodules.templates import TemplateName


class RecordDataset(Dataset[Sample]):
    """Samples of records whose media are on disk; an error in one of them names its record.

    Args:
        records: Checked records.
        processor: Makes the samples.
        for_generation: Whether samples are prompts, without their last answer.
    """

    def __init__(self, records: Sequence[Record], processor: Processor, *, for_generation: bool) -> None:
        self.records = records
        self.processor = processor
        self.for_generation = for_generation

    def __len__(self) -> int:
        """Count the records."""
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        """Read one record's media and make its sample."""
        record = self.records[index]
        try:
            return self._sample(record)
        except Exception as error:  # of any kind: it goes on, and says where it was met
            error.add_note(f"while loading record {record.id!r} ({record.origin})")
            raise

    def _sample(self, record: Record) -> Sample:
        return self.processor.encode(record, for_generation=self.for_generation)

    def set_epoch(self, epoch: int) -> None:
        """Have a random sampler draw other frames than in the epoch before."""
        self.processor.sampler.set_epoch(epoch)

    def kinds(self) -> list[str]:
        """What media each record has."""
        return [record_kind(record) for record in self.records]

    def lengths(self) -> list[int]:
        """Positions of each record's sample, by arithmetic."""
        return record_lengths(self.records, self.processor)

    def name(self, index: int) -> tuple[str, str]:
        """A record's id, and where it comes from."""
        return self.records[index].id, self.records[index].origin


class InstructionDataModule(ConversationDataModule):
    """Trains on annotation files, in any of the forms of docs/data.md.

    Every record is checked, and every medium looked for, before the first batch.

    Args:
        train_files: Annotation files to train on, all of their records once an epoch.
        val_files: Annotation files to validate on; training does without if empty.
        test_files: Annotation files to test on.
        predict_files: Annotation files to generate answers for; their last answers are dropped, or absent.
        media_root: Folder that relative media paths start from; None means each annotation file's own folder.
        num_frames: Frames sampled from a video.
        template: Chat template the language model was trained with.
        batch_size: Conversations per batch and device.
        num_workers: Loader processes; 0 loads in the main process.
        seed: Seeds the order of training samples, and what sources sample at random.
        loading: How samples become training batches.
        sources: In place of ``train_files``: annotation files with the part of each that is trained on, and how often.
        sampler: Chooses the frames of a video (`ppl.datamodules.frame_sampling`); null: the middles of equal segments,
            which is also what validation and tests see of a random one.
        decoder: Reads video files (`ppl.datamodules.decoders`); null: PyAV.
    """

    def __init__(
        self,
        train_files: list[str] | None = None,
        val_files: list[str] | None = None,
        test_files: list[str] | None = None,
        predict_files: list[str] | None = None,
        media_root: str | None = None,
        num_frames: int = 32,
        template: TemplateName = "plain_v1",
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
        loading: Loading = Loading(),  # noqa: B008  frozen
        sources: list[Source] | None = None,
        sampler: FrameSampler | None = None,
        decoder: VideoDecoder | None = None,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed, loading=loading)
        if sources and train_files:
            raise ValueError(
                f"got {len(train_files)} train_files and {len(sources)} sources, expected one of the two; "
                "list the files among data.sources"
            )
        self.files: dict[Split, list[str]] = {
            "train": train_files or [],
            "val": val_files or [],
            "test": test_files or [],
            "predict": predict_files or [],
        }
        self.sources = sources or []
        self.media_root = media_root
        self.num_frames = num_frames
        self.template: TemplateName = template
        self.sampler = sampler
        self.decoder = decoder

    def has_split(self, split: Split) -> bool:
        """Say whether the split has annotation files."""
        return bool(self.files[split]) or (split == "train" and bool(self.sources))

    def train_dataloader(self) -> ResumableLoader | DataLoader[Sample]:
        """Load as any data module does, but media whose features are kept without decoding them."""
        dataset = self._split("train")
        if isinstance(dataset, RecordDataset) and self.inputs.kept_features is not None:
            dataset.processor.kept = self.inputs.kept_features()
        return super().train_dataloader()

    def dataset(self, split: Split) -> RecordDataset:
        """Read and check the records of a split."""
        if not self.has_split(split):
            raise ValueError(f"got no {split}_files, expected at least one annotation file; set data.{split}_files")
        for_generation = split == "predict"
        sources = self.sources if split == "train" else []
        sources = sources or [Source(file) for file in self.files[split]]
        records = read_mixture(sources, self.media_root, self.seed)
        if not for_generation:
            for record in records:
                check_answered(record)
        check_media_exist(records)
        random = self.sampler is not None and self.sampler.is_random and split != "train"
        sampler = None if random else self.sampler
        processor = Processor(self.inputs, self.template, self.num_frames, sampler, self.decoder)
        return RecordDataset(records, processor, for_generation=for_generation)
