"""Seconds and bytes of one call, and what a report must say about where they were measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from math import comb
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch starts: its profiler narrates otherwise

import torch
from torch.profiler import ProfilerActivity, profile

ROOT = Path(__file__).parents[1]


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Time one call, by CUDA's events where it runs on one."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1000
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def median_interval(values: Sequence[float], digits: int) -> list[float] | None:
    """Order statistics that hold the true median in at least 95 % of such runs; None of fewer than six values."""
    number, tail, rank = len(values), 0.0, -1
    while (tail := tail + 2 * comb(number, rank + 1) / 2**number) <= 0.05:
        rank += 1
    ordered = sorted(values)
    return None if rank < 0 else [round(ordered[rank], digits), round(ordered[-1 - rank], digits)]


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Most bytes that a call allocates at once, its result and temporaries included.

    On the CPU every event of torch's own allocator is summed up; what a library allocates past it would not be seen.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    allocated = peak = 0
    for _, change in changes:
        allocated += change
        peak = max(peak, allocated)
    return peak


def provenance(name: str, device: torch.device) -> dict:
    """Command, commit, machine and versions."""
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    else:
        machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    return {
        "command": " ".join([f"python -m benchmarks.{name}", *sys.argv[1:]]),
        "commit": git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else ""),
        "machine": machine,
        "versions": {name: version(name) for name in ("torch", "transformers", "lightning", "open_clip_torch")},
    }


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
