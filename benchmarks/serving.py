"""``python -m benchmarks.serving``: `ppl serve` under load, pooled and unpooled, and a video asked about again.

A server process with random weights, a 1024th of LLaVA-NeXT-Vicuna-7B's FLOPs (`benchmarks.serving_model`), answers
OpenAI's own client: 1, 8 and 32 callers at a time, each with its next question once it has the last answer, about one
of four videos of 8 frames that the server knows. ``weighted`` leaves 64 visual tokens, ``none`` all 1152. Both are
asked in turn, round by round, and a ratio is the median over rounds of the ratios within a round. Then one caller asks
about videos that the server has never seen, and each time again.

Times are a caller's: from sending a question (in JSON, the video by the name of its upload) to the first piece of text,
and to the last. Stage times are the server's own, as its answers tell them; those of a batch are those of each of its
questions.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from openai import OpenAI
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import ROOT, provenance
from benchmarks.serving_model import SHARE, quarter, write_checkpoint
from ppl.datamodules.synthetic.writer import write_video

OUTPUT = Path(__file__).parent / "results" / "serving.json"
POOLERS = ("weighted", "none")
FRAMES, NEW_TOKENS, VIDEOS, SECONDS, FPS = 8, 16, 4, 5, 25
QUESTIONS = ("What is in the left hand?", "Who opens the door?", "Why?", "What colour is the square, and where is it?")
STAGES = ("decode", "queue", "encode", "pool", "prefill", "tokens")
console = Console(width=140, highlight=False)


@dataclass(frozen=True)
class Asked:
    """One answer, in milliseconds."""

    first: float
    last: float
    tokens: int
    together: int
    stages: dict[str, float]


def make_video(path: Path, seed: int) -> Path:
    """Pictures of 336 x 336 pixels that drift."""
    picture = np.random.default_rng(seed).integers(256, size=(3, 48, 48), dtype=np.uint8)
    write_video(path, np.stack([np.roll(picture, i // 5, axis=2) for i in range(SECONDS * FPS)]), fps=FPS, magnify=7)
    return path


@contextmanager
def server(checkpoint: Path, folder: Path) -> Iterator[OpenAI]:
    """`ppl serve` in a process of its own; its client."""
    parts = ROOT / "recipes" / "parts" / "poolers"
    words = ["--checkpoint", str(checkpoint), "--name=scaled", "--device=cpu", "--port=0", "--max-seconds=600"]
    words += [f"--pooler={name}={parts / name}.yaml" for name in POOLERS]
    command = [sys.executable, "-m", "ppl", "serve", *words]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"TMPDIR": str(folder)}, stdout=-1, text=True)
    try:
        assert process.stdout is not None
        found = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+/v1", line) for line in process.stdout)), None)
        if found is None:
            raise SystemExit(f"the server ended with status {process.wait()}; see its messages above")
        yield OpenAI(base_url=found[0], api_key="none", max_retries=0, timeout=600.0)
    finally:
        process.terminate()
        process.communicate(timeout=120)


def ask(client: OpenAI, video: str, question: str, pooler: str) -> Asked:
    """Ask one question and read the answer as it comes."""
    content = [{"type": "video_url", "video_url": {"url": video}}, {"type": "text", "text": question}]
    begin = time.perf_counter()
    first, took, tokens = 0.0, {}, 0
    chunks = client.chat.completions.create(
        model="scaled", messages=[{"role": "user", "content": content}], max_tokens=NEW_TOKENS, stream=True,
        stream_options={"include_usage": True}, extra_body={"pooler": pooler},
    )  # fmt: skip
    for chunk in chunks:
        if not first and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter()
        took |= getattr(chunk, "ppl", None) or {}
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    last = time.perf_counter()
    return Asked(
        1000 * ((first or last) - begin), 1000 * (last - begin), tokens, took["answered_together"], took["milliseconds"]
    )


def load(client: OpenAI, videos: list[str], pooler: str, callers: int, number: int) -> tuple[float, list[Asked]]:
    """So many questions from so many callers; questions a second, and all answers."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        waiting = [
            pool.submit(ask, client, videos[n % len(videos)], QUESTIONS[n // len(videos) % len(QUESTIONS)], pooler)
            for n in range(number)
        ]
        answers = [job.result() for job in waiting]
    return number / (time.perf_counter() - begin), answers


def described(rates: list[float], answers: list[Asked]) -> dict:
    """What callers saw, and the median of the server's stages."""
    return {
        "questions_per_second": round(statistics.median(rates), 3),
        "answers": len(answers),
        "answered_together": round(statistics.mean(answer.together for answer in answers), 1),
        "tokens": round(statistics.mean(answer.tokens for answer in answers), 1),
        "first_piece_ms": percentiles([answer.first for answer in answers]),
        "latency_ms": percentiles([answer.last for answer in answers]),
        "stages_ms": {
            stage: round(statistics.median(answer.stages.get(stage, 0.0) for answer in answers), 1) for stage in STAGES
        },
    }


def percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(values, share)), 1) for share in (50, 95, 99)}


def under_load(client: OpenAI, videos: list[str], callers: int, rounds: int) -> dict:
    """Both poolers in turn, round by round."""
    rates: dict[str, list[float]] = {pooler: [] for pooler in POOLERS}
    answers: dict[str, list[Asked]] = {pooler: [] for pooler in POOLERS}
    for _ in range(rounds):
        for pooler in POOLERS:
            rate, more = load(client, videos, pooler, callers, max(8, 3 * callers // 2))
            rates[pooler].append(rate)
            answers[pooler] += more
    ratios = [pooled / unpooled for pooled, unpooled in zip(rates["weighted"], rates["none"], strict=True)]
    rows = {pooler: described(rates[pooler], answers[pooler]) for pooler in POOLERS}
    return rows | {
        "pooled_times_unpooled": round(statistics.median(ratios), 2),
        "by_round": [round(ratio, 2) for ratio in ratios],
    }


def asked_again(client: OpenAI, folder: Path, number: int) -> dict:
    """A video that the server has never seen, and again; one caller, pooled."""
    pairs = []
    for seed in range(number):
        video = upload(client, make_video(folder / f"new{seed}.mp4", 1000 + seed))
        pairs.append((ask(client, video, QUESTIONS[0], "weighted"), ask(client, video, QUESTIONS[1], "weighted")))
    ratios = [new.first / again.first for new, again in pairs]
    new, again = ([pair[i] for pair in pairs] for i in range(2))
    return {
        "new": described([1000 / statistics.mean(answer.last for answer in new)], new),
        "again": described([1000 / statistics.mean(answer.last for answer in again)], again),
        "first_piece_new_times_again": round(statistics.median(ratios), 2),
        "by_pair": [round(ratio, 2) for ratio in ratios],
    }


def upload(client: OpenAI, path: Path) -> str:
    return client.files.create(file=path, purpose="user_data").id


def table(title: str, rows: dict[str, dict]) -> Table:
    result = Table(title=title)
    for heading in ("", "asked/s", "first p50", "p95", "p99", "last p50", "p95", "p99", "rows", *STAGES):
        result.add_column(heading, justify="right" if heading else "left")
    for name, row in rows.items():
        times = [*row["first_piece_ms"].values(), *row["latency_ms"].values()]
        stages = [f"{row['stages_ms'][stage]:.0f}" for stage in STAGES]
        rate, together = f"{row['questions_per_second']:.2f}", f"{row['answered_together']:.1f}"
        result.add_row(name, rate, *(f"{value:.0f}" for value in times), together, *stages)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="few questions, nothing written: does everything run?")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    begin = time.perf_counter()
    if options.quick:
        options.callers, options.rounds = [1, 4], 1
    torch.manual_seed(0)
    report: dict = provenance("serving", torch.device("cpu")) | {
        "backbone": asdict(quarter()),
        "share_of_7b": f"1/{SHARE}",
        "frames": FRAMES,
        "most_new_tokens": NEW_TOKENS,
        "load_average_before": round(os.getloadavg()[0], 1),
        "callers": {},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = write_checkpoint(quarter(), folder, FRAMES)
        with server(checkpoint, folder) as client:
            videos = [upload(client, make_video(folder / f"{n}.mp4", n)) for n in range(VIDEOS)]
            for pooler in POOLERS:
                load(client, videos, pooler, 2, VIDEOS)  # warms up, and all are encoded
            for callers in options.callers:
                report["callers"][callers] = found = under_load(client, videos, callers, options.rounds)
                console.print(table(f"{callers} caller(s); ms", {pooler: found[pooler] for pooler in POOLERS}))
                console.print(f"pooled {found['pooled_times_unpooled']} x the questions a second: {found['by_round']}")
            report["videos"] = found = asked_again(client, folder, 2 if options.quick else 8)
            console.print(table("one caller, a video for the first and the second time; ms",
                                {name: found[name] for name in ("new", "again")}))  # fmt: skip
            console.print(f"first piece, new over again: {found['first_piece_new_times_again']} x: {found['by_pair']}")
    report["load_average_after"] = round(os.getloadavg()[0], 1)
    report["seconds"] = round(time.perf_counter() - begin)
    console.print(f"{report['seconds']} s; load average {report['load_average_before']} before, "
                  f"{report['load_average_after']} after")  # fmt: skip
    if not options.quick:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
