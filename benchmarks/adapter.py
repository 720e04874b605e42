"""``python -m benchmarks.adapter``: what the adapter adds to the forward pass of transformers' own model, as a ratio.

Random models of over 100 M parameters of three classes answer the same batch through the adapter (frames, grid,
projector, layout, splice, language model) and through transformers' ``forward``, in turn, many times; their logits are
compared first, and must be the same bits. The adapter is given grey levels and normalises them, transformers gets them
normalised: that is in the ratio. A ratio is the median over rounds of the ratios within a round; beside it stand
the quartiles, and the interval that holds the true median in 95 % of such runs (by order statistics).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.measuring import ROOT, median_interval, provenance, seconds
from ppl.batches import Batch
from ppl.datamodules.collate import collate
from ppl.datamodules.processing import DecodedMedium, Processor
from ppl.datamodules.records import PLACEHOLDER, Record, Turn
from ppl.modules.backbones.base import Backbone
from ppl.modules.backbones.internvl import InternVLBackbone
from ppl.modules.backbones.llava_next import LlavaNextBackbone
from ppl.modules.backbones.llava_onevision import LlavaOnevisionBackbone
from ppl.modules.poolers.bilinear import BilinearPooler
from ppl.modules.poolers.none import NoPooler
from ppl.modules.video_llm import VideoLLM

OUTPUT = Path(__file__).parent / "results" / "adapter.json"
TARGET = 1.02
SIDE, PATCH = 224, 14
TEXT = {
    "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 12,
    "num_key_value_heads": 12, "head_dim": 64,
}  # fmt: skip
TOWER = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 8, "num_attention_heads": 12}
TILES = {"image_grid_pinpoints": [[SIDE, 2 * SIDE]]}
IMAGE, VIDEO = (1, 3, SIDE, 2 * SIDE), (4, 3, SIDE, SIDE)


class Case(NamedTuple):
    """A tiny recipe's model to make larger, and the medium it is shown."""

    backbone: type[Backbone]
    folder: str
    changes: dict
    pixels: tuple[int, ...]
    template: str


CASES = {
    "LLaVA-NeXT, a tiled image": Case(LlavaNextBackbone, "tiny_llava_next", TILES, IMAGE, "vicuna_v1"),
    "LLaVA-OneVision, 4 frames": Case(LlavaOnevisionBackbone, "tiny_llava_onevision", TILES, VIDEO, "chatml"),
    "InternVL, 4 frames": Case(InternVLBackbone, "tiny_internvl", {}, VIDEO, "internvl2_5"),
}


def build(case: Case, *, quick: bool) -> VideoLLM:
    """The model of a case, with the pooling that its class has in transformers."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "recipes" / "parts" / "backbones" / case.folder, folder, dirs_exist_ok=True)
        file = Path(folder) / "config.json"
        config = json.loads(file.read_text()) | case.changes
        text, vision = config["text_config"], config["vision_config"]
        square = isinstance(vision["image_size"], list)
        vision |= {"image_size": [SIDE, SIDE] if square else SIDE, "patch_size": [PATCH, PATCH] if square else PATCH}
        text["max_position_embeddings"] = 4096
        if not quick:
            vision |= TOWER
            text |= TEXT
            text.pop("layer_types", None)
        file.write_text(json.dumps(config))
        backbone: Any = case.backbone
        backbone = backbone(folder, initialize="random")
    if case.backbone is LlavaOnevisionBackbone:
        return VideoLLM(backbone, BilinearPooler(), pool_site="post_projector").eval()
    return VideoLLM(backbone, NoPooler()).eval()


def make_batch(model: VideoLLM, case: Case) -> Batch:
    """One medium of noise and a question."""
    frames = torch.randint(256, case.pixels, dtype=torch.uint8)
    medium = DecodedMedium("image", frames, "")
    if len(frames) > 1:
        medium = DecodedMedium("video", frames, "", tuple(float(i) for i in range(len(frames))), float(len(frames)))
    record = Record("0", [Turn("user", f"{PLACEHOLDER}\nwhat colour is the square ?")], [], origin="this benchmark")
    sample = Processor(model.input_spec, case.template).encode_decoded(record, [medium], for_generation=True)
    return collate([sample], model.input_spec, "left")


def native(model: VideoLLM, batch: Batch) -> Callable[[], Tensor]:
    """Transformers' own forward on the same ids and pixels."""
    hf, spec = model.backbone.hf, model.backbone.spec
    device = batch["input_ids"].device
    mean, std = (255 * torch.tensor(v, device=device).view(3, 1, 1) for v in (spec.image_mean, spec.image_std))
    pixels = (batch["pixel_values"] - mean) / std
    medium, ids = batch["media"][0], batch["input_ids"].clone()
    inputs: dict[str, Tensor] = {"attention_mask": batch["attention_mask"]}
    if isinstance(model.backbone, InternVLBackbone):
        inputs["pixel_values"] = pixels
    elif medium.kind == "video":
        ids[ids == hf.config.image_token_id] = hf.config.video_token_id
        inputs["pixel_values_videos"] = pixels[None]
    else:
        inputs |= {"pixel_values": pixels[None], "image_sizes": torch.tensor([medium.image_size])}
    return lambda: hf(input_ids=ids, **inputs).logits


@torch.no_grad()
def compare(model: VideoLLM, batch: Batch, rounds: int, device: torch.device) -> dict:
    """Both forward passes, in turn; who goes first alternates."""
    theirs = native(model, batch)
    difference = (model(batch) - theirs()).abs().max().item()
    calls: dict[str, Callable[[], Tensor]] = {"adapter": lambda: model(batch), "transformers": theirs}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in sorted(calls, reverse=number % 2 == 1):
            times[name].append(seconds(calls[name], device))
    ratios = [a / b for a, b in zip(times["adapter"], times["transformers"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "positions": batch["input_ids"].shape[1],
        "difference": difference,
        "milliseconds": {name: round(1000 * statistics.median(values), 1) for name, values in times.items()},
        "ratio": round(statistics.median(ratios), 4),
        "quartiles": [round(quartiles[0], 4), round(quartiles[2], 4)],
        "interval": median_interval(ratios, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing written: does everything run?")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.manual_seed(0)
    device, begin = torch.device(options.device), time.perf_counter()
    table = Table(title="forward pass: the adapter over transformers")
    for heading in ("model", "parameters", "positions", "adapter ms", "transformers ms", "ratio", "quartiles", "95 %"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    rows = {}
    for name, case in CASES.items():
        model = build(case, quick=options.quick).to(device)
        batch = cast("Any", make_batch(model, case))
        for key in ("input_ids", "attention_mask", "pixel_values"):
            batch[key] = batch[key].to(device)
        row = rows[name] = compare(model, batch, options.rounds, device)
        ms, spans = row["milliseconds"], (row["quartiles"], row["interval"])
        cells = [f"{row['parameters'] / 1e6:.0f} M", row["positions"], ms["adapter"], ms["transformers"], row["ratio"]]
        table.add_row(name, *map(str, cells), *("–".join(f"{end:.3f}" for end in span or ()) for span in spans))
    console = Console(width=140, highlight=False)
    worst = max(row["ratio"] for row in rows.values())
    console.print(table, f"largest difference of logits {max(row['difference'] for row in rows.values())}, expected 0")
    console.print(f"worst ratio {worst:.3f}, target at most {TARGET}; {time.perf_counter() - begin:.0f} s")
    if not options.quick:
        report = provenance("adapter", device) | {"target": TARGET, "rounds": options.rounds, "models": rows}
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
