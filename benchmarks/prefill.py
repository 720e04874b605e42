"""``python -m benchmarks.prefill``: time to the first token with and without pooling, and of a second question.

One backbone with random weights, a sixteenth of LLaVA-NeXT-Vicuna-7B in every stage's FLOPs (`benchmarks.scaled`),
answers a question about a video of 8, 16, 32 and 64 frames with four poolers in turn: ``none`` keeps every patch, ``144
a frame`` averages 2 x 2 patches (4608 tokens of 32 frames: what the papers compare with), ``average`` and ``weighted``
leave one of 18. Time to the first token is tower + pool + prefill (`ppl.modules.stage_times`); decoding of the file and
generation are not in it. A ratio is the median over rounds of the ratios within a round.

`benchmarks.second_question` asks again about the same video.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import provenance
from benchmarks.scaled import SEVEN_B, Shape, build, scaled, tiny
from benchmarks.second_question import QUESTION, second_question
from ppl.batches import Batch
from ppl.datamodules.collate import collate
from ppl.datamodules.processing import DecodedMedium, Processor
from ppl.datamodules.records import PLACEHOLDER, Record, Turn
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.poolers.none import NoPooler
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.stage_times import StageTimes, median_times, run_stages
from ppl.modules.video_llm import VideoLLM

OUTPUT = Path(__file__).parent / "results" / "prefill.json"
BASELINE, FRAMES = "144 a frame", 32
NEW_TOKENS = 4
PAPER = 15.0 / 4.6
"""PPLLaVA's seconds at 32 frames of 144 tokens over its own, generation included."""
console = Console(width=140, highlight=False)


def models(shape: Shape) -> dict[str, VideoLLM]:
    """All on one backbone and one aligner."""
    backbone, aligner = build(shape)
    poolers = {
        "none": NoPooler(),
        BASELINE: AveragePooler((1, 2, 2)),
        "average": AveragePooler((2, 3, 3)),
        "weighted": WeightedPooler((2, 3, 3)),
    }
    return {name: VideoLLM(backbone, pooler, aligner).eval() for name, pooler in poolers.items()}


def make_batch(model: VideoLLM, frames: int) -> Batch:
    """One video of noise and the question, as for prediction."""
    size = model.backbone.image_size
    medium = DecodedMedium("video", torch.randint(256, (frames, 3, size, size), dtype=torch.uint8), "")
    record = Record("clip", [Turn("user", f"{PLACEHOLDER}\n{QUESTION}")], [], origin="this benchmark")
    sample = Processor(model.input_spec).encode_decoded(record, [medium], for_generation=True)
    return collate([sample], model.input_spec, "left")


def repeats_of(positions: int, most: int) -> int:
    """The longer the prompt, the fewer runs; the longest take minutes each."""
    for longest, runs in ((3_000, most), (6_000, 3), (12_000, 2)):
        if positions <= longest:
            return min(most, runs)
    return 1


def too_large(shape: Shape, positions: int) -> str:
    """Why a prompt does not fit into memory; empty if it does."""
    cached = 2 * shape.layers * shape.width
    transient = 3 * shape.mlp + 6 * shape.width
    needed = 4 * positions * (cached + transient) / 2**30
    free = available_gib()
    if needed < free:
        return ""
    return f"{positions} positions need about {needed:.0f} GiB beside the weights, {free:.0f} GiB are free"


def available_gib() -> float:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) / 2**20


def compare(contestants: dict[str, VideoLLM], shape: Shape, frames: int, most: int) -> dict[str, dict]:
    """Answer with every pooler in turn, round by round."""
    batches = {name: make_batch(model, frames) for name, model in contestants.items()}
    runs: dict[str, list[StageTimes]] = {name: [] for name in contestants}
    skipped = {}
    for number in range(most):
        for name, model in contestants.items():
            positions = batches[name]["input_ids"].shape[1]
            if number >= repeats_of(positions, most):
                continue
            reason = too_large(shape, positions)
            if reason:
                skipped[name] = reason
                continue
            runs[name].append(run_stages(model, batches[name], num_new_tokens=NEW_TOKENS)[0])
    described = {}
    for name, batch in batches.items():
        tokens = contestants[name].num_visual_tokens(batch["media"][0])
        described[name] = {"visual_tokens": tokens, "runs": len(runs[name])}
        if not runs[name]:
            described[name]["skipped"] = skipped[name]
            continue
        times = {stage: round(value, 1) for stage, value in asdict(median_times(runs[name])).items()}
        pairs = [first_token(a) / first_token(b) for a, b in zip(runs[name], runs["weighted"], strict=False)]
        described[name] |= {
            "milliseconds": times,
            "first_token": round(statistics.median(map(first_token, runs[name])), 1),
            "times_weighted": round(statistics.median(pairs), 2),
            "flops": work(shape, contestants[name], batch),
            "flops_of_7b": work(SEVEN_B, contestants[name], batch),
        }
    return described


def first_token(times: StageTimes) -> float:
    return times.tower + times.pool + times.prefill


def work(shape: Shape, model: VideoLLM, batch: Batch) -> dict[str, float]:
    """FLOPs by stage, in units of 1e12."""
    [medium] = batch["media"]
    tokens = model.num_visual_tokens(medium)
    text, prompt = batch["input_ids"].shape[1] - tokens, batch["prompt_ids"]
    guided = model.pooler.uses_relevance
    length = 0 if prompt is None else prompt.shape[1]
    flops = shape.flops(medium.num_frames, tokens, text, length, guided=guided)
    return {stage: round(value / 1e12, 4) for stage, value in flops.items()}


def limits(rows: dict[str, dict], second: dict) -> list[str]:
    """Why the ratios are what they are, in numbers of this run."""
    lines = []
    weighted = rows["weighted"]
    for name in (BASELINE, "none"):
        row = rows[name]
        if "flops" not in row:
            continue
        bounds = {kind: sum(row[kind].values()) / sum(weighted[kind].values()) for kind in ("flops", "flops_of_7b")}
        prefill = row["milliseconds"]["prefill"] / weighted["milliseconds"]["prefill"]
        lines.append(
            f"{name} ({row['visual_tokens']} tokens) against weighted ({weighted['visual_tokens']}): first token "
            f"{row['times_weighted']:.2f} x, prefill alone {prefill:.2f} x; FLOPs allow {bounds['flops']:.2f} x here "
            f"and {bounds['flops_of_7b']:.2f} x in the 7B, because both run the tower: it takes "
            f"{100 * weighted['milliseconds']['tower'] / weighted['first_token']:.0f} % of weighted's time and "
            f"{100 * row['milliseconds']['tower'] / row['first_token']:.0f} % of the other's"
        )
    for name, row in rows.items():
        if "flops" in row:
            speeds = {s: 1000 * f / row["milliseconds"][s] * 1000 for s, f in row["flops"].items()}
            rates = ", ".join(f"{stage} {speed:.0f}" for stage, speed in speeds.items())
            lines.append(f"{name}: GFLOP/s by stage: {rates}")
    ms = second["milliseconds"]
    own = ", ".join(f"{name} {ms[name]:.1f}" for name in ("text tower", "relevance", "pooling", "projector"))
    lines.append(
        f"a second question adds, in ms: {own}, beside a prefill of {ms['prefill']:.0f}; relevance and pooling read "
        "the whole grid and are bound by memory, so they do not shrink with the model's depth"
    )
    return lines


def table(frames: int, rows: dict[str, dict]) -> Table:
    result = Table(title=f"{frames} frames: milliseconds")
    for heading in ("pooling", "tokens", "runs", "tower", "pool", "prefill", "first token", "per token", "× weighted"):
        result.add_column(heading, justify="left" if heading == "pooling" else "right")
    for name, row in rows.items():
        if "skipped" in row:
            result.add_row(name, str(row["visual_tokens"]), "0", f"skipped: {row['skipped']}")
            continue
        ms = row["milliseconds"]
        times = [ms["tower"], ms["pool"], ms["prefill"], row["first_token"], ms["per_token"]]
        counts = [str(row["visual_tokens"]), str(row["runs"])]
        result.add_row(name, *counts, *(f"{time:.0f}" for time in times), f"{row['times_weighted']:.2f}")
    return result


def shares(frames: int, rows: dict[str, dict]) -> Table:
    """The scaled model's FLOPs beside the 7B's."""
    result = Table(title=f"FLOPs at {frames} frames, share of each stage: 7B | this backbone")
    for heading in ("pooling", "total, 7B", "total, here", "tower", "pool", "prefill"):
        result.add_column(heading, justify="left" if heading == "pooling" else "right")
    for name, row in rows.items():
        if "flops" not in row:
            continue
        large, small = row["flops_of_7b"], row["flops"]
        both = [
            f"{100 * large[stage] / sum(large.values()):.1f} | {100 * small[stage] / sum(small.values()):.1f} %"
            for stage in large
        ]
        result.add_row(name, f"{sum(large.values()):.1f} T", f"{sum(small.values()):.2f} T", *both)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--repeats", type=int, default=5, help="most runs of each; long prompts have fewer")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing written: does everything run?")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    begin = time.perf_counter()
    torch.manual_seed(0)
    shape = tiny() if options.quick else scaled()
    contestants = models(shape)
    backbone = contestants["weighted"].backbone
    report: dict = provenance("prefill", torch.device("cpu")) | {
        "backbone": asdict(shape),
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        "frames": {},
    }
    console.print(f"{report['machine']}; fp32; {report['parameters'] / 1e6:.0f} M parameters: {shape}")
    run_stages(contestants["weighted"], make_batch(contestants["weighted"], 8), num_new_tokens=2)  # warms up
    for frames in options.frames:
        report["frames"][frames] = compare(contestants, shape, frames, options.repeats)
        console.print(table(frames, report["frames"][frames]))
    shown = FRAMES if FRAMES in options.frames else options.frames[-1]
    rows = report["frames"][shown]
    report["second_question"] = second_question(contestants["weighted"], shown, options.repeats)
    report["limits"] = limits(rows, report["second_question"])
    report["targets"] = {
        f"first token at {shown} frames, 144 a frame over weighted": {
            "target": "at least 3.3", "paper": round(PAPER, 2), "measured": rows[BASELINE]["times_weighted"],
        },
        "second question over prefill of its tokens": {
            "target": "at most 1.1", "measured": report["second_question"]["times_prefill"],
        },
    }  # fmt: skip
    report["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1)
    report["seconds"] = round(time.perf_counter() - begin)
    console.print(shares(shown, rows), *report["limits"], sep="\n")
    console.print(*(f"{name}: {numbers}" for name, numbers in report["targets"].items()), sep="\n")
    console.print(f"peak memory {report['peak_gib']} GiB, {report['seconds']} s")
    if not options.quick:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
