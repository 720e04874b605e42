"""A made-up Video-MME for `benchmarks.evaluation`, and ways to ask it that share nothing between questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ppl.datamodules.benchmark import AskedLoader, BenchmarkDataModule
from ppl.datamodules.benchmark_samples import AskedItems, AskedSample
from ppl.datamodules.synthetic.writer import write_video
from ppl.evaluation.benchmarks.videomme import Official, VideoMME
from ppl.modules.video_llm import VideoLLM

FPS = 25
ASKED = (
    "What does the person who opens the door hold in the left hand?",
    "How many squares cross the picture from left to right before the light goes out?",
    "Why?",
)
OPTIONS = ["A. One.", "B. A key.", "C. A cup.", "D. Nothing."]


class Letter(Official):
    """Ends where a trained model's answer would: after a letter and the end token."""

    max_new_tokens = 2


class EachReads(AskedItems):
    """Questions that are answered together, but each reads its media anew."""

    def __getitem__(self, index: int) -> list[AskedSample]:
        alone = alone_of(self, self.groups[index : index + 1])
        first, *rest = [asked for i in range(len(alone)) for asked in alone[i]]
        return [
            first,
            *(asked._replace(sample=asked.sample._replace(frames=asked.sample.frames[:0])) for asked in rest),
        ]


class ApartDataModule(BenchmarkDataModule):
    """Without sharing; one row at a time, every question is a group of its own."""

    def predict_dataloader(self) -> AskedLoader:
        loader = super().predict_dataloader()
        asked = loader.asked
        apart = (
            alone_of(asked, asked.groups)
            if self.rows_at_a_time == 1
            else EachReads(asked.groups, asked.total, asked.benchmark, asked.protocol, asked.processor, asked.model)
        )
        return AskedLoader(apart, self.num_workers, self.rows_at_a_time)


def alone_of(asked: AskedItems, groups: Any) -> AskedItems:
    """The questions of some groups, each a group of its own."""
    alone = [[item] for group in groups for item in group]
    return AskedItems(alone, asked.total, asked.benchmark, asked.protocol, asked.processor, asked.model)


@contextmanager
def encoding(model: VideoLLM, times: int) -> Iterator[None]:
    """Encode so many times whatever is encoded."""
    once = model.encode

    def each(pixel_values: Any, media: Any) -> Any:
        return [once(pixel_values, media) for _ in range(times)][-1]

    model.encode = each
    try:
        yield
    finally:
        del model.encode


def make_benchmark(root: Path, videos: int, seconds: int) -> VideoMME:
    """Video-MME's files: pictures of 336 x 336 pixels that drift, with a cut every five seconds."""
    random = np.random.default_rng(0)
    (root / "data").mkdir()
    (root / "videomme").mkdir()
    rows = []
    for video in range(videos):
        pictures = random.integers(256, size=(seconds // 5 + 1, 3, 48, 48), dtype=np.uint8)
        frames = [np.roll(pictures[i // (5 * FPS)], i // 5, axis=2) for i in range(seconds * FPS)]
        write_video(root / "data" / f"v{video}.mp4", np.stack(frames), fps=FPS, magnify=7)
        of_video = {"duration": "short", "domain": "Knowledge", "sub_category": "Maths", "videoID": f"v{video}"}
        of_video |= {"task_type": "Counting", "options": OPTIONS, "answer": "A"}
        rows += [of_video | {"question_id": f"{video}-{i}", "question": text} for i, text in enumerate(ASKED)]
    pq.write_table(pa.Table.from_pylist(rows), root / "videomme" / "test-00000-of-00001.parquet")
    return VideoMME(str(root))
