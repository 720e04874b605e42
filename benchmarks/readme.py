"""``python -m benchmarks.readme``: put the measured numbers of ``benchmarks/results`` into the README."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "embedded.json"
POSITIONS = RESULTS.with_name("positions.json")
START, END = "<!-- embedded:start -->\n", "<!-- embedded:end -->\n"
TITLES = {
    "weighted": "prompt-guided (weighted)",
    "weighted_no_positions": "the same, no positions",
    "average": "average",
    "average_4x": "average, 4 × the steps",
}


def block(report: dict, positions: dict) -> str:
    """The README's table and the sentences below it."""
    seeds = list(report["seeds"].values())
    kinds = [kind for kind in seeds[0]["accuracy"]["weighted"] if kind != "mean"]
    lines = [
        "| pooling to 16 tokens | " + " | ".join(kinds) + " | mean (each seed) |",
        "|---" * (len(kinds) + 2) + "|",
    ]
    for method, title in TITLES.items():
        rows = [seed["accuracy"][method] for seed in seeds]
        cells = [f"{100 * statistics.mean(row[kind] for row in rows):.0f}" for kind in kinds]
        means = ", ".join(f"{100 * row['mean']:.0f}" for row in rows)
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {means} |")
    summary = report["summary"]
    attention = summary["attention_on_asked_object_times_uniform"]
    lines += [
        "",
        f"Accuracy in % on test questions of unseen videos, mean of {len(seeds)} seeds of the whole chain (alignment "
        f"included), {report['steps']} steps of tuning. Chance: 12 for colour and shape, 25 for motion and background, "
        "about 50 for the others. Relevance on the asked object is "
        f"{span(attention['before'])} times uniform before tuning and "
        f"{span(attention['after'])} times after; {summary['alignment_retries']} alignments had to be retried. "
        f"Command: `{report['command'].strip()}` ({report['seconds'] / 60:.0f} minutes on 2 cores) at commit "
        f"`{report['commit'][:10]}`; [all numbers](benchmarks/results/embedded.json).",
        "",
        f"Motion questions, when {100 * positions['training_mix']['motion']:.0f} % of the training questions are about "
        f"motion (one number a seed): {motion(positions, 'with_positions')} % with positions added before pooling, "
        f"{motion(positions, 'without_positions')} % without; patches already carry the tower's own positions. "
        f"Command: `{positions['command']}` at commit `{positions['commit'][:10]}`.",
    ]
    return "\n".join(lines) + "\n"


def motion(positions: dict, cell: str) -> str:
    return " and ".join(f"{100 * seed[cell]['motion']:.0f}" for seed in positions["seeds"].values())


def span(values: list[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


def main() -> None:
    readme = ROOT / "README.md"
    head, rest = readme.read_text().split(START)
    tail = rest.split(END)[1]
    readme.write_text(
        head + START + block(json.loads(RESULTS.read_text()), json.loads(POSITIONS.read_text())) + END + tail
    )


if __name__ == "__main__":
    main()
