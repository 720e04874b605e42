"""``python -m benchmarks.watching``: what watching adds to a training step, as a ratio.

One run of Lightning's loop over one batch; in blocks of ten steps, as often as the loggers write, `Throughput` counts
and logs, or is absent, hooks and all. A block's first step, in which it comes or goes, is left out, so that a line of
the logger falls on nine steps, not ten. A ratio is that of two blocks side by side; beside the median stand the
quartiles, and the interval that holds the true median in 95 % of such runs (by order statistics).
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from benchmarks.measuring import ROOT, median_interval, provenance
from ppl.callbacks.loader_wait import LoaderWait
from ppl.callbacks.throughput import Throughput
from ppl.datamodules.collate import collate
from ppl.datamodules.processing import Processor
from ppl.datamodules.synthetic.instruction import QuestionMix, SyntheticQuestions
from ppl.modules.aligners.clip import CLIPAligner
from ppl.modules.backbones.llava_next import LlavaNextBackbone
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule

OUTPUT = Path(__file__).parent / "results" / "watching.json"
BLOCK = 10
TARGET = 1.02


class Clock(Callback):
    """Notes when each step begins."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.starts.append(time.perf_counter())


class Switched(Throughput):
    """Comes and goes with each block."""

    is_on = False

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx % BLOCK == 0:
            self.is_on = batch_idx // BLOCK % 2 == 1
            self.teardown(trainer, pl_module, "fit")
            if self.is_on:
                self.setup(trainer, pl_module, "fit")
                self.on_train_start(trainer, pl_module)
        if self.is_on:
            super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_train_batch_end(self, *args: Any) -> None:
        if self.is_on:
            super().on_train_batch_end(*args)


class Loggers:
    """Both defaults, without hyperparameters: modules made by hand are no recipe."""

    class TensorBoard(TensorBoardLogger):
        def log_hyperparams(self, params, metrics=None, step=None) -> None: ...

    class Csv(CSVLogger):
        def log_hyperparams(self, params) -> None: ...


def run(rows: int, rounds: int, device: torch.device) -> list[float]:
    """When each step began."""
    parts = ROOT / "recipes" / "parts"
    module = SFTModule(
        LlavaNextBackbone(str(parts / "backbones" / "tiny_llava_next"), initialize="random"),
        WeightedPooler(),
        CLIPAligner(f"local-dir:{parts / 'aligners' / 'tiny_clip'}", None, load_weights=False),
    )
    data = SyntheticQuestions(Processor(module.input_spec, num_frames=8), 0, 4, rows, QuestionMix(), prompt=False)
    batch = collate([data[i] for i in range(rows)], module.input_spec, "right")
    steps = BLOCK * (2 * rounds + 2) + 1  # a pair of blocks to warm up
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu", devices=1, max_steps=steps, log_every_n_steps=BLOCK,
            callbacks=[clock, Switched()], profiler=LoaderWait(), enable_checkpointing=False, enable_progress_bar=False,
            logger=[Loggers.TensorBoard(folder, name="", version=""), Loggers.Csv(folder, name="csv")],
            enable_model_summary=False, default_root_dir=folder,
        ).fit(module, DataLoader([batch] * steps, batch_size=None, collate_fn=lambda each: each))  # fmt: skip
    return clock.starts


def compare(starts: list[float]) -> dict:
    """Blocks with against blocks without, pair by pair."""
    spans = [starts[i + BLOCK] - starts[i + 1] for i in range(2 * BLOCK, len(starts) - BLOCK, BLOCK)]
    without, with_it = spans[0::2], spans[1::2]
    ratios = [a / b for a, b in zip(with_it, without, strict=True)]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    added = statistics.median(a - b for a, b in zip(with_it, without, strict=True))
    return {
        "step_milliseconds": round(1000 * statistics.median(without) / (BLOCK - 1), 2),
        "added_microseconds_a_step": round(1e6 * added / (BLOCK - 1)),
        "ratio": round(statistics.median(ratios), 4),
        "quartiles": [round(quartiles[0], 4), round(quartiles[2], 4)],
        "interval": median_interval(ratios, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--rows", type=int, default=8, help="questions about videos of 8 frames in the batch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="two rounds, nothing written: does everything run?")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    device = torch.device(options.device)
    result = compare(run(options.rows, 2 if options.quick else options.rounds, device))
    print(json.dumps(result, indent=1))
    print(f"ratio {result['ratio']:.3f}, target at most {TARGET}")
    if not options.quick:
        report = provenance("watching", device) | {"target": TARGET, "rounds": options.rounds, "rows": options.rows}
        options.output.write_text(json.dumps(report | result, indent=1) + "\n")


if __name__ == "__main__":
    main()
