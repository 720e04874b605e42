"""``python -m benchmarks.positions``: what positions before pooling do for motion questions, trained mostly on those.

Weighted pooling with and without `GridPositions` on the same alignment, steps and questions; test split.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from benchmarks.chain import ROOT, STEPS, Cell, align, tune_all
from benchmarks.measuring import provenance

OUTPUT = Path(__file__).parent / "results" / "positions.json"
POOLER = "recipes/parts/poolers/weighted.yaml"
SHARES = {"motion": 0.4, "when": 0.25, "exist": 0.35, "colour": 0.0, "shape": 0.0, "order": 0.0, "background": 0.0}
MIX = tuple(f"--data.mix.{kind}={share}" for kind, share in SHARES.items())
CELLS = [
    Cell("with_positions", POOLER, overrides=MIX),
    Cell("without_positions", POOLER, overrides=(*MIX, "--model.positions=null")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    report = provenance("positions", torch.device("cpu")) | {"steps": STEPS, "training_mix": SHARES, "seeds": {}}
    for seed in options.seeds:
        folder = ROOT / "runs" / "positions" / f"seed_{seed}"
        results = tune_all(CELLS, align(folder, seed), folder, seed)
        kinds = [kind for kind, share in SHARES.items() if share]
        accuracy = {r.cell.name: {kind: round(r.accuracies()[kind], 3) for kind in kinds} for r in results}
        report["seeds"][seed] = accuracy
        print(seed, accuracy, flush=True)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
