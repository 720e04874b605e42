"""``python -m benchmarks.data``: what loading costs, on a mixture of text, images, several images and videos made here.

*Stages*: samples a second of decoding, resizing and tokenising, collating and (with a GPU) copying, each by itself in
this process. *Loaders*: samples a second of ours and of a naive one, with and without workers, how many times as fast
as the naive one ours is in each turn, and the share of the time that a model waits whose step takes as long as loading
a batch takes with two workers. The naive one decodes whole videos and hands normalised floats over. *Padding*: share of
positions, by how batches are made. *Memory*: of this process and two workers, after the first tenth of the samples and
after all.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from benchmarks.measuring import provenance
from benchmarks.scaled import build, tiny
from ppl.batches import Batch, InputSpec
from ppl.datamodules.collate import collate
from ppl.datamodules.instruction import InstructionDataModule, RecordDataset
from ppl.datamodules.media_reading import DecodedMedium
from ppl.datamodules.processing import Sample
from ppl.datamodules.records import MediumRef
from ppl.datamodules.resumable import Loading
from ppl.datamodules.synthetic.world import random_scene, render
from ppl.datamodules.synthetic.writer import write_video
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.video_llm import VideoLLM

OUTPUT = Path(__file__).parent / "results" / "data.json"
WORDS = ["what", "colour", "is", "the", "circle", "?", "which", "shape", "appears", "first", "in", "this", "video", ","]
FRAMES, BATCH, FPS = 8, 8, 10
MEAN, STD = torch.tensor([122.8, 116.7, 104.1]).view(3, 1, 1), torch.tensor([68.5, 66.6, 70.3]).view(3, 1, 1)
PADDING = {
    "random": Loading(),
    "grouped by length": Loading(group_by_length=True),
    "packed": Loading(packing="rows"),
    "packed, short rows": Loading(packing="rows", row_length=1024),
    "padding-free": Loading(packing="padding_free"),
}
console = Console(width=120, highlight=False)


def write_mixture(folder: Path, number: int, seconds: int) -> Path:
    """As many records of each of four kinds, their questions of 5 to 200 words; 10 videos and 20 images."""
    rng, drawn = random.Random(0), np.random.default_rng(0)
    for index in range(10):
        write_video(folder / f"{index}.mp4", render(random_scene(drawn, num_frames=seconds * FPS)), fps=FPS, magnify=8)
    for index in range(20):
        size = rng.randrange(200, 700), rng.randrange(200, 700)
        Image.effect_noise(size, 60).convert("RGB").save(folder / f"{index}.jpg")
    lines = []
    for index in range(number):
        media = [[], ["image"], ["image", "image"], ["video"]][index % 4]
        names = [f"{rng.randrange(20)}.jpg" if kind == "image" else f"{rng.randrange(10)}.mp4" for kind in media]
        text = " ".join(rng.choices(WORDS, k=round(5 * 40 ** rng.random())))
        content = [{"type": kind, kind: name} for kind, name in zip(media, names, strict=True)]
        turns = [
            {"role": "user", "content": [*content, {"type": "text", "text": text}]},
            {"role": "assistant", "content": " ".join(rng.choices(WORDS, k=rng.randrange(1, 40)))},
        ]
        lines.append(json.dumps({"id": str(index), "messages": turns}))
    file = folder / "mixture.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def data_module(file: Path, inputs: InputSpec, workers: int = 0, loading: Loading = PADDING["random"]) -> Any:
    data = InstructionDataModule([str(file)], num_frames=FRAMES, batch_size=BATCH, num_workers=workers, loading=loading)
    data.attach(inputs)
    data.setup("fit")
    return data


class NaiveDataset(Dataset):
    """Decodes every frame of a video to keep a few, and normalises in the worker: four bytes for one."""

    def __init__(self, dataset: RecordDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        record, processor = self.dataset.records[index], self.dataset.processor
        return processor.encode_decoded(record, [self.read(ref) for ref in record.media])

    def read(self, ref: MediumRef) -> DecodedMedium:
        if ref.kind != "video":
            return self.dataset.processor.read(ref)
        with av.open(ref.path) as container:
            frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        chosen = frames[np.linspace(0, len(frames) - 1, FRAMES).astype(int)]
        return DecodedMedium("video", torch.from_numpy(chosen).permute(0, 3, 1, 2), "")


def naive_batch(samples: list[Sample], inputs: InputSpec) -> dict:
    batch = collate(samples, inputs, "right")
    return batch | {"pixel_values": (batch["pixel_values"] - MEAN) / STD}


def measure_stages(dataset: RecordDataset, inputs: InputSpec, number: int) -> dict[str, float]:
    """Samples a second of each stage."""
    processor, spent = dataset.processor, dict.fromkeys(("decode", "resize and tokenise", "collate", "transfer"), 0.0)

    def timed(stage: str, call: Any) -> Any:
        begin = time.perf_counter()
        result = call()
        spent[stage] += time.perf_counter() - begin
        return result

    samples = []
    for record in dataset.records[:number]:
        media = timed("decode", lambda record=record: [processor.read(ref) for ref in record.media])
        samples.append(
            timed("resize and tokenise", lambda record=record, media=media: processor.encode_decoded(record, media))
        )
    for start in range(0, number, BATCH):
        batch = timed("collate", lambda start=start: collate(samples[start : start + BATCH], inputs, "right"))
        if torch.cuda.is_available():
            timed("transfer", lambda batch=batch: copied(batch))
    return {stage: number / seconds for stage, seconds in spent.items() if seconds}


def copied(batch: Batch) -> None:
    for value in batch.values():
        if isinstance(value, torch.Tensor):
            value.pin_memory().cuda(non_blocking=True)
    torch.cuda.synchronize()


def run(batches: Iterable[dict], step: float = 0.0) -> tuple[float, float]:
    """Samples a second, and the share of the time spent waiting for batches by a model that takes ``step`` seconds."""
    waited, samples, begin = 0.0, 0, time.perf_counter()
    iterator = iter(batches)
    while True:
        asked = time.perf_counter()
        batch = next(iterator, None)
        waited += time.perf_counter() - asked
        if batch is None:
            total = time.perf_counter() - begin
            return samples / total, waited / total
        samples += len(batch["ids"])
        time.sleep(step)


def measure_loaders(file: Path, inputs: InputSpec, repeats: int) -> list[dict]:
    """Ours and the naive one in turn; the first epoch starts the workers and does not count."""
    loaders: dict[tuple[str, int], Any] = {}
    for workers in (0, 2):
        data = data_module(file, inputs, workers)
        loaders["ours", workers] = data.train_dataloader()
        loaders["naive", workers] = DataLoader(
            NaiveDataset(data.dataset("train")),
            BATCH,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=partial(naive_batch, inputs=inputs),
        )
    for loader in loaders.values():
        run(loader)
    rates: dict[tuple[str, int], list[float]] = {key: [] for key in loaders}
    for _ in range(repeats):
        for key, loader in loaders.items():
            rates[key].append(run(loader)[0])
    step = BATCH / max(rates["ours", 2])
    rows = []
    for (name, workers), loader in loaders.items():
        times = [a / b for a, b in zip(rates[name, workers], rates["naive", workers], strict=True)]
        rows.append(
            {
                "loader": name,
                "workers": workers,
                "samples_per_second": round(statistics.median(rates[name, workers]), 1),
            }
            | {"times_naive": round(statistics.median(times), 2), "by_turn": [round(ratio, 2) for ratio in times]}
            | {"step_seconds": round(step, 4), "waiting": round(run(loader, step)[1], 3)}
        )
    return rows


def measure_padding(file: Path, inputs: InputSpec) -> dict[str, dict[str, float]]:
    """The loader's own counts after an epoch."""
    found = {}
    for name, loading in PADDING.items():
        loader = data_module(file, inputs, 2, loading).train_dataloader()
        found[name] = {"rows": sum(len(batch["input_ids"]) for batch in loader)} | {
            key.removeprefix("data/"): round(value, 4) for key, value in loader.metrics().items()
        }
    return found


def resident_mib(processes: Sequence[int]) -> float:
    """Linux only; what processes share counts once for each."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in processes)
    return pages * 4096 / 2**20


def memory_growth(loader: Any, number: int) -> dict[str, float]:
    """Load ``number`` samples, epoch after epoch; MiB after a tenth of them, and at the end."""
    seen, early = 0, 0.0
    processes: list[int] = []
    while seen < number:
        for batch in loader:
            seen += len(batch["ids"])
            workers = getattr(loader._loader._iterator, "_workers", [])
            processes = [os.getpid(), *(worker.pid for worker in workers)]
            early = early or (resident_mib(processes) if seen >= number / 10 else 0.0)
    late = resident_mib(processes)
    return {
        "samples": seen,
        "early_mib": round(early, 1),
        "late_mib": round(late, 1),
        "growth_mib": round(late - early, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little data, nothing written: does everything run?")
    parser.add_argument("--samples", type=int, default=1_000, help="how many to load where memory is measured")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    shape = tiny() if options.quick else replace(tiny(), image=336)
    backbone, aligner = build(shape)
    inputs = VideoLLM(backbone, WeightedPooler((2, 3, 3)), aligner).input_spec
    with tempfile.TemporaryDirectory() as name:
        file = write_mixture(Path(name), 48 if options.quick else 96, 4 if options.quick else 20)
        dataset = data_module(file, inputs).dataset("train")
        report: dict[str, Any] = {
            "stages": measure_stages(dataset, inputs, min(len(dataset), 200)),
            "loaders": measure_loaders(file, inputs, 1 if options.quick else 3),
            "padding": measure_padding(file, inputs),
            "memory": memory_growth(
                data_module(file, inputs, 2).train_dataloader(), 200 if options.quick else options.samples
            ),
        }
    for section, rows in report.items():
        console.rule(section)
        console.print(rows)
    if not options.quick:
        header = provenance("data", torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        options.output.write_text(json.dumps(header | report, indent=1) + "\n")


if __name__ == "__main__":
    main()
