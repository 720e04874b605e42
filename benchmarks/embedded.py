"""``python -m benchmarks.embedded``: prompt-guided against average pooling in the embedded world, over several seeds.

Every seed runs the whole chain, alignment included. Reported are questions of the test split, which nothing was chosen
by; average pooling is run at the same steps and at four times the steps, weighted pooling also without positions.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.chain import (
    AVERAGE,
    AVERAGE_LONG,
    ROOT,
    STEPS,
    WEIGHTED,
    WEIGHTED_BARE,
    Alignment,
    Cell,
    Result,
    align,
    tune,
)
from benchmarks.localisation import localise
from benchmarks.measuring import provenance

OUTPUT = Path(__file__).parent / "results" / "embedded.json"
CELLS = (AVERAGE_LONG, WEIGHTED, WEIGHTED_BARE, AVERAGE)  # the longest first, so that no core idles at the end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    start = time.perf_counter()
    alignments = {seed: align(folder(seed), seed) for seed in options.seeds}
    jobs = [(cell, seed) for cell in CELLS for seed in options.seeds]
    with ThreadPoolExecutor(max_workers=2) as pool:
        done = list(pool.map(lambda job: tune(job[0], alignments[job[1]], folder(job[1]), job[1]), jobs))
    rows = {seed: describe(alignments[seed], results_of(seed, jobs, done)) for seed in options.seeds}
    report = provenance("embedded", torch.device("cpu")) | {
        "machine": f"{platform.processor() or platform.machine()}, two cells at a time, one thread each",
        "steps": STEPS,
        "seconds": round(time.perf_counter() - start),
        "seeds": rows,
        "summary": summarise(rows),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    Console().print_json(json.dumps(report["summary"]))


def folder(seed: int) -> Path:
    return ROOT / "runs" / "embedded" / f"seed_{seed}"


def results_of(seed: int, jobs: list[tuple[Cell, int]], done: list[Result]) -> dict[str, Result]:
    return {cell.name: result for (cell, s), result in zip(jobs, done, strict=True) if s == seed}


def describe(alignment: Alignment, results: dict[str, Result]) -> dict:
    weighted = results[WEIGHTED.name]
    return {
        "alignment": {
            "seed": alignment.seed,
            "retries": alignment.failed,
            "pointing": rounded(alignment.pointing),
            "seconds": round(alignment.seconds),
        },
        "localisation": localise(weighted.checkpoint, alignment.weights),
        "accuracy": {name: rounded(result.accuracies()) for name, result in results.items()},
        "seconds": {name: {k: round(v) for k, v in result.seconds.items()} for name, result in results.items()},
    }


def summarise(rows: dict[int, dict]) -> dict:
    """Means over seeds, and the margins that the project promises."""
    methods = next(iter(rows.values()))["accuracy"]
    accuracy = {
        method: {
            kind: round(statistics.mean(row["accuracy"][method][kind] for row in rows.values()), 3) for kind in kinds
        }
        for method, kinds in methods.items()
    }
    margins = [row["accuracy"]["weighted"]["mean"] - row["accuracy"]["average"]["mean"] for row in rows.values()]
    after = [row["localisation"]["after"]["times_uniform"] for row in rows.values()]
    before = [row["localisation"]["before"]["times_uniform"] for row in rows.values()]
    return {
        "accuracy": accuracy,
        "weighted_minus_average_points": [round(100 * margin, 1) for margin in margins],
        "attention_on_asked_object_times_uniform": {"before": before, "after": after},
        "alignment_retries": sum(len(row["alignment"]["retries"]) for row in rows.values()),
    }


def rounded(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(share, 3) for name, share in shares.items()}


if __name__ == "__main__":
    main()
