"""``python -m benchmarks.training``: a training step of our loop, as a ratio to one of transformers' Trainer.

Video-LLaVA's own path in transformers pools nothing: 32 frames are 32 x 145 tokens. So the same random weights learn
the same video and answer in transformers' Trainer (its default AdamW, which is fused) and in Lightning's with
`SFTModule`, `NoPooler` and all that ``ppl fit`` adds; losses before and after all steps are compared. Weighted
pooling, whole and with LoRA, runs beside them. The model is the 7B with widths and positions a quarter and depth a
sixteenth, so that attention and tower keep their shares of the FLOPs: the language model's part is what pooling
shrinks. The text tower's vocabulary does not shrink, and weighs more than beside a 7B. Vision towers are
frozen everywhere.

Each contestant is a process of its own that waits for its turn, so that a round has a step of each, side by side; a
step lasts from one step's start to the next's, hooks and data included. A ratio is the median over rounds of the ratios
within a round, with the interval that holds the true median in 95 % of such runs (by order statistics). Peaks are of
resident memory, over what the process had before it built the model. Linux only.

What a loop itself costs is seen beside a tiny model: our own lines, Lightning with and without what ``ppl fit`` adds,
and transformers' Trainer, ten steps a turn, as often as they log.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import median_interval, provenance
from benchmarks.scaled import Shape
from benchmarks.training_loops import Contestant, contend

OUTPUT = Path(__file__).parent / "results" / "training.json"
SMALL = Shape(2, 1024, 2752, 8, 168, 14, 2, 256, 604, 1024, 1, 192, 2.5, 48)
TINY = Shape(2, 128, 344, 4, 84, 14, 2, 64, 256, 128, 1, 64, 2.5, 16)
THEIRS, OURS = Contestant("transformers"), Contestant("ppl")
STEPS = {
    "transformers' Trainer": THEIRS, "ours, no pooling": OURS, "ours, weighted": Contestant("ppl", pooled=True),
    "ours, weighted, LoRA": Contestant("ppl", pooled=True, lora=True),
}  # fmt: skip
LOOPS = {"our own lines": Contestant("lines"), "Lightning": Contestant("bare"), "ppl fit": OURS,
         "transformers' Trainer": THEIRS}  # fmt: skip
PAIRS = {
    "training step without pooling, transformers over ours": ("transformers' Trainer", "ours, no pooling", 1.0),
    "training step, transformers without pooling over ours weighted": ("transformers' Trainer", "ours, weighted", 3.0),
    "training step weighted, whole over LoRA": ("ours, weighted", "ours, weighted, LoRA", None),
}


def race(contestants: dict[str, Contestant], shape: Shape, frames: int, rounds: int, block: int) -> dict[str, dict]:
    """Let each take its turn, round by round; the first round warms up, and who goes first alternates."""
    context, pipes, rows = multiprocessing.get_context("fork"), {}, {}
    with ExitStack() as stack:
        for name, who in contestants.items():
            pipes[name], theirs = context.Pipe()
            arguments = (theirs, who, shape, frames, block * (rounds + 2), block)
            process = context.Process(target=contend, args=arguments, daemon=True)
            process.start()
            stack.callback(process.terminate)
            theirs.close()
            rows[name] = pipes[name].recv() | {"seconds": []}  # one at a time: they build alone
            pipes[name].recv()
        for number in range(rounds + 1):
            for name in sorted(pipes, reverse=number % 2 == 1):
                pipes[name].send(True)
                rows[name]["seconds"].append(pipes[name].recv() / block)
        for name, pipe in pipes.items():
            pipe.send(False)
            end = pipe.recv()
            del rows[name]["seconds"][0]
            rows[name] |= {"peak_mib": end["peak"] >> 20, "loss_after": end["loss"]}
    return rows


def ratio(over: list[float], under: list[float]) -> dict:
    """The median of paired ratios, and its interval."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return {"ratio": round(statistics.median(ratios), 3), "interval": median_interval(ratios, 3)}


def milliseconds(row: dict) -> float:
    return 1000 * statistics.median(row["seconds"])


def described(rows: dict[str, dict]) -> dict[str, dict]:
    """Rows with their median in place of every round."""
    kept = ("tokens", "trained", "peak_mib", "loss", "loss_after")
    return {
        name: {"milliseconds": round(milliseconds(row), 2)} | {key: row[key] for key in kept}
        for name, row in rows.items()
    }


def table(title: str, rows: dict[str, dict]) -> Table:
    result = Table(title=title)
    for heading in ("loop", "positions", "trained", "ms a step", "peak MiB", "loss before", "after"):
        result.add_column(heading, justify="left" if heading == "loop" else "right")
    for name, row in rows.items():
        losses = (f"{row[key]:.5f}" for key in ("loss", "loss_after"))
        trained = f"{row['trained'] / 1e6:.2f} M"
        cells = (str(row["tokens"]), trained, f"{milliseconds(row):.1f}", str(row["peak_mib"]))
        result.add_row(name, *cells, *losses)
    return result


def compare(rows: dict[str, dict]) -> dict[str, dict]:
    """What is promised of steps, beside what was measured."""
    found = {}
    for name, (over, under, target) in PAIRS.items():
        found[name] = ratio(rows[over]["seconds"], rows[under]["seconds"]) | {
            "memory_ratio": round(rows[over]["peak_mib"] / rows[under]["peak_mib"], 3), "target": target,
        }  # fmt: skip
    return found


def overhead(rows: dict[str, dict]) -> dict[str, dict]:
    """What each loop takes beside the same step in our own lines."""
    lines = rows["our own lines"]["seconds"]
    others = {name: row["seconds"] for name, row in rows.items() if name != "our own lines"}
    return {
        name: ratio(seconds, lines)
        | {"added_ms": round(1000 * statistics.median(a - b for a, b in zip(seconds, lines, strict=True)), 2)}
        for name, seconds in others.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=10, help="of a step of each")
    parser.add_argument("--loop-rounds", type=int, default=30, help="of ten steps of the tiny model in each loop")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing written: does everything run?")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    begin = time.perf_counter()
    rounds, loop_rounds = (3, 2) if options.quick else (options.rounds, options.loop_rounds)
    steps = race(STEPS, TINY if options.quick else SMALL, options.frames, rounds, 1)
    loops = race(LOOPS, TINY, 2, loop_rounds, 10)
    theirs, ours = (steps[name] for name in ("transformers' Trainer", "ours, no pooling"))
    report = provenance("training", torch.device("cpu")) | {
        "frames": options.frames, "rounds": rounds, "loop_rounds": loop_rounds,
        "steps": described(steps), "ratios": compare(steps), "loops": described(loops), "overhead": overhead(loops),
        "loss_difference": {key: abs(theirs[key] - ours[key]) for key in ("loss", "loss_after")},
        "seconds": round(time.perf_counter() - begin),
    }  # fmt: skip
    console = Console(width=140, highlight=False)
    console.print(f"{report['machine']}; fp32")
    console.print(table(f"a training step, one video of {options.frames} frames", steps))
    console.print(table("loops beside a tiny model, two frames", loops))
    for kind in ("ratios", "overhead"):
        console.print(*(f"{name}: {numbers}" for name, numbers in report[kind].items()), sep="\n")
    console.print(f"losses apart without pooling: {report['loss_difference']}; {report['seconds']} s")
    if not options.quick:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
