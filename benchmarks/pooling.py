"""``python -m benchmarks.pooling``: time and memory of every pooler, beside the unfold formulation and a plain copy.

Every call starts from a patch grid (t, h, w, c) and logits of relevance and ends with tokens (n, c). ``forward`` runs
without gradients, ``training`` is forward and backward, to the grid and to the relevance. The rows:

``clone``: ``grid.clone()``, the yardstick; ``read``: ``grid.sum()``, which reads everything and writes nothing.
``unfold`` and ``unfold_last``: the straightforward formulations of `benchmarks.unfolding`.
The others are ``recipes/parts/poolers``, those with a free number of tokens set to about one of 18.

Candidates take turns within each round, so that all see the same noise; a ratio is the median over rounds of the ratios
within a round. Extra memory is the peak of what is allocated during one call, result included, as a share of the grid's
bytes: on the CPU from every event of torch's allocator (`torch.profiler`), so temporaries count; on CUDA from
``torch.cuda.max_memory_allocated``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.measuring import ROOT, peak_bytes, provenance, seconds
from benchmarks.unfolding import unfold, unfold_last
from ppl.functional.windows import Size3
from ppl.modules.poolers.base import Pooler

OUTPUT = Path(__file__).parent / "results" / "pooling.json"
RECIPES = ROOT / "recipes" / "parts" / "poolers"
GRIDS = ((32, 24, 24, 1024), (64, 27, 27, 1152))
DTYPES = (torch.float32, torch.bfloat16)
COMPILED = ("unfold", "unfold_last", "average", "weighted")
REFERENCES = ("unfold", "unfold_last", "clone")
SLOW = 1.0
"""Seconds. A candidate whose second call takes longer is timed in the first three rounds only."""

Call = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Row:
    """What one candidate took on one grid, in one dtype and mode."""

    name: str
    call: Callable[[], object]
    milliseconds: list[float] = field(default_factory=list)
    rounds: int = 0
    extra_memory: float = 0.0
    """Share of the grid's bytes."""
    tokens: int = 0


def settings(size: Size3) -> dict[str, dict]:
    """What changes in a recipe so that about one token of 18 is left, where a recipe leaves that open."""
    t, h, w = size
    tokens = t * h * w // 18
    return {
        "adaptive_average": {"output_size": [t // 2, h // 3, w // 3]},
        "bilinear": {"stride": 4},
        "budget": {"budget": tokens},
        "random": {"keep": tokens},
        "token_merging": {"target": tokens},
        "token_merging_guided": {"target": tokens},
    }


def candidates(size: Size3) -> Iterator[tuple[str, Call]]:
    """Everything that is measured, by name; what is compiled comes last."""
    calls: dict[str, Call] = {
        "clone": lambda grid, _: grid.clone(),
        "read": lambda grid, _: grid.sum(),
        "unfold": unfold,
        "unfold_last": unfold_last,
    }
    for recipe in sorted(RECIPES.glob("*.yaml")):
        calls[recipe.stem] = pool_with(build(recipe, settings(size).get(recipe.stem, {})))
    yield from calls.items()
    for name in COMPILED:
        yield f"{name} (compiled)", torch.compile(calls[name], dynamic=False)


def build(recipe: Path, changes: dict) -> Pooler:
    part = yaml.safe_load(recipe.read_text())
    part["init_args"] = part.get("init_args", {}) | changes
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Pooler, "pooler")
    return parser.instantiate(parser.parse_object({"pooler": part}))["pooler"]


def pool_with(pooler: Pooler) -> Call:
    return lambda grid, relevance: pooler(grid, relevance if pooler.uses_relevance else None, "video")


def forward(call: Call, grid: Tensor, relevance: Tensor) -> Callable[[], object]:
    def run() -> Tensor:
        with torch.no_grad():
            return call(grid, relevance)

    return run


def training(call: Call, grid: Tensor, relevance: Tensor) -> Callable[[], object]:
    leaves = [grid.clone().requires_grad_(), relevance.clone().requires_grad_()]
    with torch.no_grad():
        gradient = torch.randn_like(call(grid, relevance))

    def run() -> None:
        call(*leaves).backward(gradient)
        for leaf in leaves:
            leaf.grad = None

    return run


MODES = {"forward": forward, "training": training}


def check_equal(calls: dict[str, Call], grid: Tensor, relevance: Tensor) -> float:
    """Refuse to time what does not compute the same; return the largest difference as a share of the largest value."""
    with torch.no_grad():
        expected = unfold_last(grid.double(), relevance.double())
        names = [name for name in calls if name.removesuffix(" (compiled)") in ("unfold", "unfold_last", "weighted")]
        errors = {name: (calls[name](grid, relevance) - expected).abs().max() / expected.abs().max() for name in names}
    # References round weights and products to the grid's dtype.
    tolerance = 1e-5 if grid.dtype == torch.float32 else 2e-2
    wrong = {name: float(error) for name, error in errors.items() if not error <= tolerance}
    if wrong:
        msg = (
            f"got results that differ from unfold's in fp64 by {wrong}, expected at most {tolerance}; nothing was timed"
        )
        raise SystemExit(msg)
    return max(float(error) for error in errors.values())


def measure(calls: dict[str, Call], mode: str, grid: Tensor, relevance: Tensor, rounds: int) -> list[Row]:
    rows = []
    for name, call in calls.items():
        row = Row(name, MODES[mode](call, grid, relevance))
        row.call()  # compiles, and warms up
        row.rounds = rounds if seconds(row.call, grid.device) < SLOW else min(rounds, 3)
        row.extra_memory = peak_bytes(row.call, grid.device) / grid.nbytes
        with torch.no_grad():
            row.tokens = call(grid, relevance).numel() // grid.shape[-1]
        rows.append(row)
    for number in range(rounds):
        first = number % len(rows)
        for row in rows[first:] + rows[:first]:
            if number < row.rounds:
                row.milliseconds.append(1000 * seconds(row.call, grid.device))
    return rows


def describe(rows: list[Row]) -> dict[str, dict]:
    by_name = {row.name: row.milliseconds for row in rows}
    described = {}
    for row in rows:
        ratios = {
            f"times_faster_than_{name}": round(
                statistics.median(a / b for a, b in zip(by_name[name], row.milliseconds, strict=False)), 2
            )
            for name in REFERENCES
        }
        described[row.name] = {
            "milliseconds": round(statistics.median(row.milliseconds), 2),
            "extra_memory": round(row.extra_memory, 3),
            "tokens": row.tokens,
            **ratios,
        }
    return described


def targets(rows: dict[str, dict]) -> dict[str, dict]:
    """Each promise about weighted pooling's forward pass: what was promised, what was measured."""
    unfold_ms, read_ms = rows["unfold"]["milliseconds"], rows["read"]["milliseconds"]
    eager, compiled = rows["weighted"], rows["weighted (compiled)"]
    reference = "times_faster_than_unfold"
    return {
        "eager, times faster than unfold": {"target": 8.0, "measured": eager[reference]},
        "compiled, times faster than unfold in eager mode": {
            "target": 30.0,
            "measured": compiled[reference],
            "ceiling_reading_the_grid_once": round(unfold_ms / read_ms, 1),
        },
        "extra memory, eager": {"target": 0.10, "measured": eager["extra_memory"]},
        "extra memory, compiled": {"target": 0.10, "measured": compiled["extra_memory"]},
    }


def table(title: str, rows: dict[str, dict]) -> Table:
    result = Table(title=title)
    headings = ("", "tokens", "ms", "extra memory", *(f"× {name}" for name in REFERENCES))
    for heading in headings:
        result.add_column(heading, justify="right" if heading else "left")
    for name, row in rows.items():
        ratios = [f"{row[f'times_faster_than_{reference}']:.1f}" for reference in REFERENCES]
        memory = f"{100 * row['extra_memory']:.1f} %"
        result.add_row(name, str(row["tokens"]), f"{row['milliseconds']:.2f}", memory, *ratios)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="one small grid, to see that everything runs")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    device = torch.device(options.device)
    grids = ((8, 12, 12, 64),) if options.quick else GRIDS
    console = Console(width=140)
    begin = time.perf_counter()
    report: dict = {
        **provenance("pooling", device),
        "rounds": options.rounds,
        "grids": {},
    }
    console.print(f"{report['machine']}; median of {options.rounds} rounds in which all take turns", highlight=False)
    for (t, h, w, c), dtype in ((grid, dtype) for grid in grids for dtype in DTYPES):
        torch.compiler.reset()
        torch.manual_seed(0)
        grid = torch.randn(t, h, w, c, device=device).to(dtype)
        relevance = 3 * torch.randn(t, h, w, device=device)  # the spread of 100 * cosine over patches of real videos
        calls = dict(candidates((t, h, w)))
        name = f"({t}, {h}, {w}, {c}) {str(dtype).removeprefix('torch.')}"
        report["grids"][name] = {"largest_difference": check_equal(calls, grid, relevance)}
        for mode in MODES:
            rows = describe(measure(calls, mode, grid, relevance, options.rounds))
            report["grids"][name][mode] = rows
            console.print(table(f"{name}, {mode}", rows))
        report["grids"][name]["targets"] = targets(report["grids"][name]["forward"])
        for what, numbers in report["grids"][name]["targets"].items():
            console.print(f"{what}: {numbers}", highlight=False)
    report["seconds"] = round(time.perf_counter() - begin)
    if not options.quick:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
