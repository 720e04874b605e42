"""``python -m benchmarks.cache``: an epoch with the vision tower's features kept, over the same epoch without.

`benchmarks.scaled`'s LLaVA-NeXT, whose stages have the 7B's shares of the FLOPs, is fine-tuned on H.264 files with a
frozen tower: decode, encode or look up, pool, project, language model, loss, backward. The optimiser is left out: its
cost is one of weights and not of FLOPs. Every way to keep features has been through a first epoch, which is timed too;
then epochs of all ways take turns, and ratios are of epochs of one turn. Files come from the page cache, where they
still are: a disk adds its own time. What is in a folder is not decoded again, what is in memory alone is. ``encode_s``
is `VideoLLM.encode` alone on the same batches: the tower, or a lookup.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from benchmarks.measuring import provenance, seconds
from benchmarks.scaled import Shape, build, scaled, tiny
from ppl.batches import Batch
from ppl.datamodules.collate import collate
from ppl.datamodules.instruction import InstructionDataModule
from ppl.datamodules.synthetic.world import random_scene, render
from ppl.datamodules.synthetic.writer import write_video
from ppl.functional.losses import next_token_loss
from ppl.modules.feature_cache import Caching, FeatureCache
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.video_llm import VideoLLM

OUTPUT = Path(__file__).parent / "results" / "cache.json"
CPU = torch.device("cpu")
QUESTION = "What colour is the thing that moves to the left, and what becomes of it in the end?"


def ways(root: Path) -> dict[str, Caching | None]:
    """Nothing kept, and every way to keep it."""
    kept: dict[str, Caching | None] = {"without": None, "memory, float16": Caching(memory_gib=64.0)}
    for storage in ("float16", "int8"):
        for compression in ("none", "zstd"):
            name = f"folder, {storage}" + (", zstd" if compression == "zstd" else "")
            kept[name] = Caching(folder=str(root / name), storage=storage, compression=compression)
    return kept


def build_model(shape: Shape, device: torch.device) -> VideoLLM:
    backbone, aligner = build(shape)
    model = VideoLLM(backbone, WeightedPooler((2, 3, 3)), aligner).to(device)
    model.backbone.vision_tower.requires_grad_(False)
    return model


def loader_of(model: VideoLLM, folder: Path, videos: int, frames: int, batch_size: int, workers: int) -> DataLoader:
    """One question about each of some videos of 384 pixels squared."""
    lines = []
    for number in range(videos):
        scene = random_scene(np.random.default_rng(number), num_frames=2 * frames)
        write_video(folder / f"{number}.mp4", render(scene), magnify=8)
        content = [{"type": "video", "video": f"{number}.mp4"}, {"type": "text", "text": QUESTION}]
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "It is red."}]
        lines.append(json.dumps({"id": str(number), "messages": messages}))
    (folder / "data.jsonl").write_text("\n".join(lines))
    data = InstructionDataModule([str(folder / "data.jsonl")], num_frames=frames)
    data.attach(model.input_spec)
    to_batch = partial(collate, inputs=model.input_spec, padding_side="right")
    return DataLoader(data.dataset("train"), batch_size=batch_size, num_workers=workers, collate_fn=to_batch)


def on(device: torch.device, batch: Batch) -> Batch:
    moved = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    return Batch(**moved)


def keep(model: VideoLLM, loader: DataLoader, cache: FeatureCache | None) -> None:
    """As training does: what the cache has in its folder is not decoded."""
    model.cache = cache
    loader.dataset.processor.kept = None if cache is None else cache.kept_of(model.tower_identity())


def epoch(model: VideoLLM, loader: DataLoader, device: torch.device) -> None:
    for batch in loader:
        batch = on(device, batch)
        next_token_loss(model(batch), batch["labels"]).backward()
        model.zero_grad()


@torch.no_grad()
def encode(model: VideoLLM, batches: list[Batch]) -> None:
    for batch in batches:
        model.encode(batch["pixel_values"], batch["media"])


def measure(model: VideoLLM, loader: DataLoader, caches: dict, rounds: int, device: torch.device) -> dict[str, dict]:
    """Seconds of each way's first epoch, of its later ones, and of `VideoLLM.encode` in them."""
    batches = [on(device, batch) for batch in loader]
    rows: dict[str, dict] = {name: {"epochs": [], "encode": []} for name in caches}
    encode(model, batches[:1])  # warm up
    for name in caches:
        keep(model, loader, caches[name])
        rows[name]["first"] = seconds(lambda: epoch(model, loader, device), device)
    for number in range(rounds):
        for name in sorted(caches, reverse=number % 2 == 1):
            keep(model, loader, caches[name])
            rows[name]["epochs"].append(seconds(lambda: epoch(model, loader, device), device))
            rows[name]["encode"].append(seconds(lambda: encode(model, batches), device))
    return rows


def summary(rows: dict[str, dict], caches: dict[str, FeatureCache | None], videos: int) -> dict[str, dict]:
    without, found = rows["without"]["epochs"], {}
    for name, row in rows.items():
        ratios = [with_ / plain for with_, plain in zip(row["epochs"], without, strict=True)]
        cache = caches[name]
        kept = 0 if cache is None else cache.folder.num_bytes() if cache.folder is not None else cache.num_bytes
        found[name] = {
            "first_epoch_s": round(row["first"], 3),
            "epoch_s": round(statistics.median(row["epochs"]), 3),
            "ratio": round(statistics.median(ratios), 4),
            "ratios": [round(ratio, 4) for ratio in ratios],
            "encode_s": round(statistics.median(row["encode"]), 4),
            "mib_per_video": round(kept / videos / 2**20, 2),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=2)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="processes that decode")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing written: does everything run?")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(options.device)
    model = build_model(tiny() if options.quick else scaled(), device)
    sizes = (options.videos, options.frames, options.batch_size, options.workers)
    with tempfile.TemporaryDirectory() as name:
        loader = loader_of(model, Path(name), *sizes)
        decode = statistics.median(seconds(lambda: list(loader), CPU) for _ in range(3))
        caches = {way: caching and FeatureCache(caching) for way, caching in ways(Path(name)).items()}
        found = summary(measure(model, loader, caches, options.rounds, device), caches, options.videos)
    table = Table(title=f"{options.videos} videos of {options.frames} frames, epochs after the first")
    for heading in ("features", "first epoch s", "epoch s", "over without", "tower or lookup s", "MiB a video"):
        table.add_column(heading, justify="left" if heading == "features" else "right")
    for way, row in found.items():
        cells = ("first_epoch_s", "epoch_s", "ratio", "encode_s", "mib_per_video")
        table.add_row(way, *(str(row[cell]) for cell in cells))
    Console(width=120, highlight=False).print(table, f"decoding alone {decode:.2f} s an epoch")
    if not options.quick:
        report = provenance("cache", device) | {
            "sizes": dict(zip(("videos", "frames", "batch_size", "workers"), sizes, strict=True))
        }
        options.output.write_text(json.dumps(report | {"decode_s": round(decode, 3), "ways": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
