"""Run `ppl plan`, and show its numbers as tables or as JSON."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ppl.planning.plan import Options, make_plan
from ppl.planning.recipe import build_model, read_recipe

_STAGES = {
    "vision": "vision tower",
    "aligner": "aligner",
    "projector": "projector",
    "prefill": "prefill",
    "first_token": "= to the first token",
    "per_token": "each further token",
    "training_forward": "training: forward",
    "training_backward": "training: backward",
    "training": "= one training step",
    "checkpointing": "+ with checkpointing",
}


_MEMORY_COLUMNS = {
    "again": (),
    "weights": ("weights",),
    "grads": ("gradients",),
    "AdamW": ("optimizer",),
    "buckets": ("communication",),
    "kept": ("activations", "low_precision"),
    "logits": ("logits",),
    "tower": ("tower",),
    "total": ("total",),
    "fits": (),
}
"""Heading, and what is summed under it."""
_MEMORY_NOTE = (
    "again: activation checkpointing. buckets: DDP's, and what FSDP gathers. kept: activations, and autocast's copies "
    "of weights. total: states + 1 GiB of CUDA's + the largest of kept and logits, frozen tower at work, AdamW's step"
)


def run_plan(options: argparse.Namespace, words: list[str]) -> None:
    """Plan what the command line asks for.

    Args:
        options: The subcommand's own.
        words: Recipe, overlays and overrides, as ``ppl fit`` takes them.

    Raises:
        ValueError: The recipe or an option is not accepted, or ``--json`` names no file that can be written.
        FileNotFoundError: The backbone's architecture is nowhere to be found.
    """
    chosen = Options(options.gpus, options.gpu_memory, options.prompt_tokens, options.answer_tokens, options.lora_rank)
    if options.json not in (None, "-"):
        _check_file(Path(options.json))
    begin = time.perf_counter()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    recipe = read_recipe(words)
    module, origin = build_model(recipe, options.source)
    plan = make_plan(module, recipe, origin, chosen)
    if options.json == "-":
        sys.stdout.write(json.dumps(plan, indent=1) + "\n")
        return
    show(plan, Console(highlight=False))
    Console(stderr=True, highlight=False).print(f"planned in {time.perf_counter() - begin:.1f} s", style="dim")
    if options.json:
        Path(options.json).write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")


def _check_file(file: Path) -> None:
    """Before the work, not after it."""
    if file.is_dir():
        msg = f"got --json {file}, a folder; expected a file: {file / 'plan.json'}, say"
        raise ValueError(msg)
    if not file.parent.is_dir():
        msg = f"got --json {file}, expected a file in a folder that exists; make {file.parent} first"
        raise ValueError(msg)


def show(plan: dict[str, Any], console: Console) -> None:
    """Print the tables, and what needs attention last."""
    model = plan["model"]
    console.print(
        f"{model['backbone']}, {model['pooler']} at {model['pool_site']}, {model['num_frames']} frames, batch "
        f"{model['batch_size']} a GPU, {model['precision']}\narchitecture: {model['architecture']}"
    )
    for table in (parameters(plan), tokens(plan), operations(plan), *memory(plan)):
        console.print(table)
    console.print(_MEMORY_NOTE)
    sequence = plan["sequence"]
    console.print(
        f"sequence: {plan['tokens']['video']['pooled']} visual + {sequence['media_text']} around them + "
        f"{sequence['prompt']} prompt + {sequence['answer']} answer = {sequence['pooled']} of {sequence['limit']} "
        f"positions (unpooled {sequence['unpooled']})"
    )
    for note in plan["notes"]:
        console.print(f"! {note}", style="bold")


def parameters(plan: dict[str, Any]) -> Table:
    """Sizes and learning rates of the parts."""
    table = _table("parameters", "part", "parameters", "trainable", "learning rate")
    for part in plan["parameters"]["parts"]:
        rate = "frozen" if part["learning_rate"] is None else f"{part['learning_rate']:g}"
        table.add_row(part["name"], f"{part['parameters']:,}", f"{part['trainable']:,}", rate)
    total = plan["parameters"]
    table.add_row("all", f"{total['total']:,}", f"{total['trainable']:,}", "", style="bold")
    return table


def tokens(plan: dict[str, Any]) -> Table:
    """Visual tokens by kind of medium."""
    counts = plan["tokens"]
    height, width = counts["image"]["size"]
    table = _table(
        "visual tokens, newlines included", "medium", "frames, views", "pooled", "unpooled", "a frame, pooled"
    )
    names = {
        "video": "video",
        "image": f"image of {width} x {height}",
        "each_of_several_images": "each of several such images",
    }
    for key, name in names.items():
        row = counts[key]
        views = row.get("frames", row.get("views"))
        table.add_row(name, str(views), str(row["pooled"]), str(row["unpooled"]), f"{row['pooled'] / views:.1f}")
    return table


def operations(plan: dict[str, Any]) -> Table:
    """FLOPs of one video sample."""
    work = plan["flops"]
    table = _table("operations of one video sample, in TFLOP", "stage", "pooled", "unpooled", "ratio")
    for stage, name in _STAGES.items():
        pooled, unpooled = (work[kind][stage] / 1e12 for kind in ("pooled", "unpooled"))
        ratio = work["ratio"].get(stage)
        style = "bold" if name.startswith("=") else None
        table.add_row(name, f"{pooled:.3g}", f"{unpooled:.3g}", f"{ratio:.2f} x" if ratio else "", style=style)
    return table


def memory(plan: dict[str, Any]) -> list[Table]:
    """GiB of each GPU, row by row: a table for what trains, narrow enough for 80 columns."""
    limits = plan["memory"]
    tables: dict[str, Table] = {}
    for row in limits["rows"]:
        name = f"{row['training']}, {row['precision']}"
        if name not in tables:
            title = f"{name}: height of memory, GiB of {limits['gpu_memory'] / 2**30:g}, "
            tables[name] = _table(f"{title}{limits['batch_size']} videos a batch", "GPUs", *_MEMORY_COLUMNS)
            tables[name].padding = (0, 0)
        sizes = [f"{sum(row[part] for part in parts) / 2**30:.1f}" for parts in _MEMORY_COLUMNS.values() if parts]
        gpus = "1" if row["strategy"] == "single" else f"{row['gpus']} {row['strategy'].upper()}"
        again, fits = ("yes" if row[key] else "no" for key in ("checkpointing", "fits"))
        if row["strategy"] == "single":
            tables[name].add_section()
        tables[name].add_row(gpus, again, *sizes, fits, style=None if row["fits"] else "dim")
    return list(tables.values())


def _table(title: str, first: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
