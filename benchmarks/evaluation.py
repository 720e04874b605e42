"""``python -m benchmarks.evaluation``: questions a second of `ppl predict` on a benchmark, and what sharing saves.

A made-up Video-MME: real H.264 files, three questions each, asked through `BenchmarkDataModule` and Lightning's
``predict`` in four ways. ``shared``: as it is, a video is decoded and encoded once for its questions, which are
answered together. ``shared, one by one``: the same, a question at a time. ``apart``: decoded and encoded for each
question, answered together. ``apart, one by one``: each question on its own from the file to the answer. All four
must answer alike. They take turns, round by round; a ratio is the median of the rounds' ratios, with the interval
that holds the true median in 95 % of such runs (by order statistics).

What sharing saves hangs on how dear decoding and encoding (S) are beside a question's own work (Q): at n questions a
video it is n (S + Q) / (S + n Q), and never n. So there are several models with random weights, LLaVA-NeXT-Vicuna-7B's
widths by eight and of several depths; beside each stands at how many TFLOP/s a 7B would take its times. Files are read
in the main process unless ``--num-workers`` is set: read ahead, decoding hides behind the model.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning import Callback, Trainer

from benchmarks.asked_apart import ASKED, ApartDataModule, Letter, encoding, make_benchmark
from benchmarks.measuring import median_interval, provenance
from benchmarks.scaled import SEVEN_B, Shape, build
from ppl.batches import AskedBatch
from ppl.callbacks.row_writer import RowWriter
from ppl.datamodules.benchmark import BenchmarkDataModule
from ppl.evaluation.benchmarks.videomme import VideoMME
from ppl.evaluation.rows import Row, read_rows
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule
from ppl.modules.stage_times import measure_stages
from ppl.modules.video_llm import VideoLLM

OUTPUT = Path(__file__).parent / "results" / "evaluation.json"
QUESTIONS = len(ASKED)
TARGET = 2.0


@dataclass(frozen=True)
class Way:
    shared: bool
    together: bool


WAYS = {
    "shared": Way(shared=True, together=True),
    "shared, one by one": Way(shared=True, together=False),
    "apart": Way(shared=False, together=True),
    "apart, one by one": Way(shared=False, together=False),
}
RATIOS = {
    "caching, batched": ("shared", "apart"),
    "caching, one by one": ("shared, one by one", "apart, one by one"),
    "batching, shared": ("shared", "shared, one by one"),
    "batching, apart": ("apart", "apart, one by one"),
    "caching and batching": ("shared", "apart, one by one"),
}


class Clock(Callback):
    """Times the loop, without what comes before it, and keeps the first batch."""

    seconds = 0.0
    batch: AskedBatch | None = None

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        self.began = time.perf_counter()

    def on_predict_batch_start(
        self, trainer: Any, pl_module: Any, batch: AskedBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.batch = self.batch or batch

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        self.seconds = time.perf_counter() - self.began


def shape_of(depth: int) -> Shape:
    """The 7B's widths by eight; with half as many layers, the tower's share of FLOPs is the 7B's, within an eighth."""
    return Shape(
        layers=depth, width=512, mlp=1376, heads=4, tower_layers=depth // 2, tower_width=128, tower_mlp=512,
        projector=512, text_layers=1, text_width=128, joint=96,
    )  # fmt: skip


def ask(module: SFTModule, benchmark: VideoMME, way: Way, options: argparse.Namespace) -> tuple[Clock, list[Row]]:
    """One whole run into a new folder."""
    kind = BenchmarkDataModule if way.shared else ApartDataModule
    data = kind(
        benchmark, Letter(num_frames=options.frames), "plain_v1",
        num_workers=options.num_workers, rows_at_a_time=QUESTIONS if way.together else 1,
    )  # fmt: skip
    clock, times = Clock(), QUESTIONS if way.together and not way.shared else 1
    with tempfile.TemporaryDirectory() as folder, encoding(module.model, times):
        Trainer(
            accelerator="gpu" if options.device == "cuda" else "cpu", devices=1, callbacks=[RowWriter(), clock],
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=folder,
        ).predict(module, data, return_predictions=False)  # fmt: skip
        return clock, list(read_rows(Path(folder) / "rows-0.jsonl"))


def measure(depth: int, benchmark: VideoMME, options: argparse.Namespace) -> dict:
    """All ways in turn, with one model."""
    torch.manual_seed(0)
    backbone, aligner = build(shape_of(depth))
    module = SFTModule(backbone, WeightedPooler(), aligner)
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    stages: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in WAYS}
    names, said, single = list(WAYS), None, None
    for number in range(options.rounds + 1):
        for name in names[number % 4 :] + names[: number % 4]:
            clock, rows = ask(module, benchmark, WAYS[name], options)
            answers = {row.id: row.text for row in rows}
            said = said or answers
            if answers != said or not any(said.values()):
                raise ValueError(f"got {answers} of {name!r}, expected {said} as before, and not all of it empty")
            single = clock.batch if name == "apart, one by one" else single
            if number:  # the first round warms up
                speeds[name].append(len(rows) / clock.seconds)
                for stage in rows[0].milliseconds:
                    stages[name][stage].append(statistics.mean(row.milliseconds[stage] for row in rows))
    assert single is not None
    alone = asdict(measure_stages(module.model, cast(Any, single), repeats=options.rounds))
    return {
        "parameters": sum(parameter.numel() for parameter in module.model.parameters()),
        "milliseconds_of_one_question": {stage: round(took, 1) for stage, took in alone.items()},
        **as_7b(alone, single, module.model),
        **described(speeds, stages),
    }


def as_7b(alone: dict[str, float], batch: AskedBatch, model: VideoLLM) -> dict:
    """What the model stands for: a 7B on a machine of so many TFLOP/s."""
    [medium] = batch["media"]
    positions = batch["input_ids"].shape[1]
    flops = {"tower": SEVEN_B.tower_flops(medium.num_frames), "prefill": SEVEN_B.prefill_flops(positions)}
    return {
        "visual_tokens": model.num_visual_tokens(medium),
        "positions": positions,
        "teraflops_at_which_a_7b_takes_as_long": {name: round(f / alone[name] / 1e9, 1) for name, f in flops.items()},
    }


def described(speeds: dict[str, list[float]], stages: dict[str, dict[str, list[float]]]) -> dict:
    """Medians; ratios beside what the stages of questions on their own allow."""
    took = {way: {stage: round(statistics.median(ms), 1) for stage, ms in of.items()} for way, of in stages.items()}
    alone = took["apart, one by one"]
    once, each = alone["decode"] + alone["encode"], alone["pool"] + alone["generate"]
    ratios = {}
    for name, (over, under) in RATIOS.items():
        rounds = [a / b for a, b in zip(speeds[over], speeds[under], strict=True)]
        ratios[name] = {"median": round(statistics.median(rounds), 2), "interval": median_interval(rounds, 2)}
    return {
        "questions_a_second": {name: round(statistics.median(values), 3) for name, values in speeds.items()},
        "milliseconds_a_question": took,
        "ratios": ratios,
        "caching_by_the_stages": round(QUESTIONS * (once + each) / (once + QUESTIONS * each), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 8], help="language models' layers, even")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--videos", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=30, help="of each video")
    parser.add_argument("--rounds", type=int, default=6, help="six is the least that has intervals")
    parser.add_argument("--num-workers", type=int, default=0)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="one small model, two rounds, nothing written")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    if options.quick:
        options.depths, options.frames, options.videos, options.rounds = [2], 8, 1, 2
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    begin = time.perf_counter()
    set_up = {name: getattr(options, name) for name in ("frames", "videos", "seconds", "rounds", "num_workers")}
    report = provenance("evaluation", torch.device(options.device)) | set_up | {"target": TARGET, "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        benchmark = make_benchmark(Path(folder), options.videos, options.seconds)
        for depth in options.depths:
            report["models"][f"{depth} layers"] = result = measure(depth, benchmark, options)
            print(f"{depth} layers: {json.dumps(result, indent=1)}")
            print(f"caching, batched: {result['ratios']['caching, batched']}, target at least {TARGET}")
    report["took_seconds"] = round(time.perf_counter() - begin)
    print(f"{report['took_seconds']} s")
    if not options.quick:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
