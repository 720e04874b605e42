"""Benchmark questions for ``ppl predict``: grouped by video, shared out among processes, and never asked twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from torch.utils.data import DataLoader

from ppl.batches import AskedBatch, InputSpec
from ppl.datamodules.base import ConversationDataModule, Split
from ppl.datamodules.benchmark_samples import AskedItems, AskedSample, media_record
from ppl.datamodules.collate import collate
from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.missing_media import check_media_exist, missing_media
from ppl.datamodules.processing import Processor
from ppl.datamodules.templates import TEMPLATES, TemplateName
from ppl.evaluation.benchmark import Benchmark, check_files_exist, missing_files, read_items
from ppl.evaluation.items import Item
from ppl.evaluation.protocol import Protocol
from ppl.evaluation.rows import read_rows, to_line
from ppl.evaluation.runs import row_files


class BenchmarkDataModule(ConversationDataModule):
    """The questions of one benchmark, asked by one protocol.

    What ``rows-*.jsonl`` in the run's folder holds already is not asked again, so that a run that was killed goes on.

    Args:
        benchmark: Which questions, and where their files are.
        protocol: How they are asked and marked.
        template: Chat template the language model was trained with; null: the checkpoint's.
        limit: Ask the first so many groups of questions about the same media; null: all. Their share of the benchmark
            is reported as coverage.
        allow_missing: Leave out questions whose media, or subtitles where they are said, are not on disk, which
            coverage reports; otherwise they are an error before anything is asked.
        num_workers: Loader processes, which read videos ahead; 0 loads in the main process.
        decoder: Reads video files; null: PyAV.
        rows_at_a_time: Most questions about the same media that are answered at once; more of them take more memory,
            not more encoding.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        protocol: Protocol,
        template: TemplateName | None = None,
        limit: int | None = None,
        allow_missing: bool = False,
        num_workers: int = 2,
        decoder: VideoDecoder | None = None,
        rows_at_a_time: int = 16,
    ) -> None:
        super().__init__(num_workers=num_workers)
        self.benchmark = benchmark
        self.protocol = protocol
        self._template: TemplateName | None = template
        self.limit = limit
        self.allow_missing = allow_missing
        self.decoder = decoder
        self.rows_at_a_time = rows_at_a_time
        self._groups: list[list[Item]] = []
        self._total = 0
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a process may have nothing left to ask

    @property
    def template(self) -> TemplateName:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The chat template.

        Raises:
            ValueError: None was given, and the model does not come from a checkpoint that tells.
        """
        conversation = {} if self.trainer is None else getattr(self.trainer.lightning_module, "conversation", {})
        template = self._template or conversation.get("template")
        if template is None:
            raise ValueError(f"got no chat template, expected one of {sorted(TEMPLATES)}: set data.template")
        return template

    def has_split(self, split: Split) -> bool:
        """Benchmarks are for ``ppl predict`` alone."""
        return split == "predict"

    def dataset(self, split: Split) -> NoReturn:
        """Refuse any other use."""
        raise ValueError(f"got the {split} split of a benchmark, expected `ppl predict`, and then `ppl score`")

    def setup(self, stage: str | None = None) -> None:
        """Read the questions."""
        if stage not in ("predict", None):
            self.dataset("train" if stage == "fit" else "val")
        items = read_items(self.benchmark)
        self._total = len(items)
        self._groups = group_by_media(self._present(items), self.protocol)[: self.limit]
        if not self._groups:
            raise ValueError(
                f"got nothing to ask of {self.benchmark.name}, which has {self._total} questions, expected some: are "
                "its files whole, its media there (data.allow_missing leaves questions out), and data.limit not 0?"
            )

    def predict_dataloader(self) -> AskedLoader:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Load one batch for each group of questions about the same media.

        Those of other processes are left out, and those that this model has answered: only now are its weights there.
        """
        trainer, model = self.trainer, ""
        share, shares = 0, 1
        if trainer is not None:
            places = trainer.distributed_sampler_kwargs or {}
            share, shares = places.get("rank", share), places.get("num_replicas", shares)
            module: Any = trainer.lightning_module
            model = module.answers_as(self.template)
        done = set() if trainer is None else self._answered(Path(trainer.default_root_dir), model)
        left = [[item for item in group if item.id not in done] for group in self._groups[share::shares]]
        groups = [group for group in left if group]
        processor = Processor(self.inputs, self.template, decoder=self.decoder)
        asked = AskedItems(groups, self._total, self.benchmark.name, self.protocol, processor, model)
        return AskedLoader(asked, self.num_workers, self.rows_at_a_time)

    def _present(self, items: list[Item]) -> list[Item]:
        records = [media_record(item, item.id) for item in items]
        if not self.allow_missing:
            check_media_exist(records)
            check_files_exist(items, self.protocol)
            return items
        lacking = {record.id for records in missing_media(records).values() for record in records}
        lacking |= {item.id for item, _ in missing_files(items, self.protocol)}
        return [item for item in items if item.id not in lacking]

    def _answered(self, folder: Path, model: str) -> set[str]:
        rows = [row for file in row_files(folder) for row in read_rows(file)]
        for row in rows:
            if (row.benchmark, row.protocol, row.model) != (self.benchmark.name, self.protocol.identity(), model):
                raise ValueError(
                    f"got {folder} with answers of {row.model or 'a model'} to {row.benchmark} by {row.protocol}, "
                    f"expected those of {model} to {self.benchmark.name} by {self.protocol.identity()}: set "
                    "trainer.default_root_dir to another folder, or remove its rows-*.jsonl"
                )
        return {row.id for row in rows}


class AskedLoader:
    """Loads batches of a group each; Lightning leaves it as it is, for it is shared out among processes already."""

    def __init__(self, asked: AskedItems, num_workers: int, rows_at_a_time: int) -> None:
        self.asked = asked
        to_batch = partial(
            _to_batch,
            inputs=asked.processor.inputs,
            rows_at_a_time=rows_at_a_time,
            max_new_tokens=asked.protocol.max_new_tokens,
        )
        self._loader = DataLoader(asked, batch_size=None, num_workers=num_workers, collate_fn=to_batch)

    def __len__(self) -> int:
        """Count the batches."""
        return len(self.asked)

    def __iter__(self) -> Iterator[AskedBatch]:
        """Hand out the batches, read ahead by the workers."""
        return iter(self._loader)


def group_by_media(items: Sequence[Item], protocol: Protocol) -> list[list[Item]]:
    """Put questions about the same frames together; groups and questions in the order in which they first come."""
    groups: dict[object, list[Item]] = {}
    for item in items:
        groups.setdefault((item.media, protocol.frames(item)) if item.media else item.id, []).append(item)
    return list(groups.values())


def _to_batch(group: list[AskedSample], inputs: InputSpec, rows_at_a_time: int, max_new_tokens: int) -> AskedBatch:
    return AskedBatch(
        **collate([asked.sample for asked in group], inputs, "left"),
        rows=[to_line(asked.row) for asked in group],
        rows_at_a_time=rows_at_a_time,
        max_new_tokens=max_new_tokens,
    )
