"""``python -m benchmarks.readme``: put the measured numbers of ``benchmarks/results`` into the README."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable
from pathlib import Path

from benchmarks.marked import rewrite

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TITLES = {
    "weighted": "prompt-guided (weighted)",
    "weighted_no_positions": "the same, no positions",
    "average": "average",
    "average_4x": "average, 4 × the steps",
}


def embedded() -> str:
    """Guided against average pooling over seeds of the whole chain, and motion questions."""
    report, positions = read("embedded"), read("positions")
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


def ablation() -> str:
    """The pooling approaches of the embedded world, and the two rows that differ where motion is asked."""
    lines = [
        "| pooling | published, not re-run | tokens | accuracy, % ± std [95 %] | − weighted [95 %] | colour | shape |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows_of("tiny_pooling"):
        accuracy = f"{percent(row['accuracy_mean'])} ± {percent(row['accuracy_std'])} {interval(row, 'accuracy')}"
        difference = "reference"
        if row["difference"]:
            difference = f"{100 * float(row['difference']):+.1f} {interval(row, 'difference')}"
        published = row["published_not_rerun"].replace(", Video-MME", "") or "–"
        kinds = [percent(row[f"category.{kind}.mean"]) for kind in ("colour", "shape")]
        cells = [row["title"], published, row["tokens"], accuracy, difference, *kinds]
        lines.append("| " + " | ".join(cells) + " |")
    moving = {row["row"]: row for row in rows_of("tiny_motion")}
    shown = "; ".join(
        f"{row['title']} {percent(row['category.motion.mean'])} ± {percent(row['category.motion.std'])}"
        for row in moving.values()
        if row["row"] != "random"
    )
    lines += [
        "",
        f"{provenance('tiny_pooling')}. With 40 % of the training questions about motion, accuracy on motion "
        f"(chance 25): {shown}. {provenance('tiny_motion')}.",
        "",
        f"The text tower's context, behind prompts of 90 words: {contexts()}. {provenance('tiny_context')}.",
    ]
    return "\n".join(lines) + "\n"


def speed() -> str:
    """Weighted pooling against unfold, and the time to the first token."""
    report = read("pooling")
    lines = [
        "| weighted pooling, forward | ms: eager, compiled | × unfold, channels first | × unfold, channels last "
        "| extra memory | × `clone()` |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, grid in report["grids"].items():
        eager, compiled = grid["forward"]["weighted"], grid["forward"]["weighted (compiled)"]
        both = (eager, compiled)
        cells = [
            ", ".join(f"{row['milliseconds']:.1f}" for row in both),
            *(
                ", ".join(f"{row[f'times_faster_than_{reference}']:.0f}" for row in both)
                for reference in ("unfold", "unfold_last")
            ),
            ", ".join(f"{100 * row['extra_memory']:.1f} %" for row in both),
            ", ".join(f"{row['times_faster_than_clone']:.1f}" for row in both),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "`unfold` is the straightforward formulation, channels first as in the released code (without its copy), or "
        "last; weights are Eq. 3's in all, and results are checked equal first. "
        f"Command: `{report['command'].strip()}` at commit `{report['commit'][:10]}`, CPU, "
        f"{report['machine']}; [every pooler, forward and backward](benchmarks/results/pooling.json).",
        "",
    ]
    prefill, longest = read("prefill"), read("prefill_64")
    lines += [
        "| frames | visual tokens: all, 144 a frame, average, weighted | time to first token, s | × weighted |",
        "|---:|---|---|---|",
    ]
    for frames, row in (prefill["frames"] | longest["frames"]).items():
        tokens, seconds, ratios = (
            ", ".join(text(each) for each in row.values())
            for text in (
                lambda each: str(each["visual_tokens"]),
                lambda each: f"{each['first_token'] / 1000:.1f}" if "first_token" in each else "–",
                lambda each: f"{each['times_weighted']:.1f}" if "times_weighted" in each else "–",
            )
        )
        lines.append(f"| {frames} | {tokens} | {seconds} | {ratios} |")
    second = prefill["second_question"]
    lines += [
        "",
        f"A backbone of {prefill['parameters'] / 1e6:.0f} M random parameters with the 7B's shares of the FLOPs, fp32, "
        f"CPU. A second question about the same video costs {second['times_prefill']:.2f} × the prefill of its pooled "
        f"tokens. Command: `{prefill['command'].strip()}` at commit `{prefill['commit'][:10]}`, and with `--frames 64 "
        f"--repeats 1` at `{longest['commit'][:10]}`; what limits each ratio is in "
        "[its results](benchmarks/results/prefill.json).",
    ]
    return "\n".join(lines) + "\n"


BLOCKS: dict[str, Callable[[], str]] = {"embedded": embedded, "ablation": ablation, "speed": speed}


def read(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


def contexts() -> str:
    return "; ".join(f"{row['title']} {percent(row['accuracy_mean'])}" for row in rows_of("tiny_context"))


def rows_of(name: str) -> list[dict[str, str]]:
    with (RESULTS / name / "results.csv").open() as file:
        return list(csv.DictReader(file))


def provenance(name: str) -> str:
    cells = [json.loads(line) for line in (RESULTS / name / "results.jsonl").read_text().splitlines()]
    commits = sorted({cell["commit"][:10] + cell["commit"][40:] for cell in cells})  # and "+changes"
    seeds = sorted({cell["seed"] for cell in cells})
    return (
        f"Command: `ppl ablate -c recipes/ablations/{name}.yaml`, seeds {', '.join(map(str, seeds))}, at commit "
        f"`{'`, `'.join(commits)}`; [all numbers](benchmarks/results/{name}/results.csv)"
    )


def percent(share: str) -> str:
    return f"{100 * float(share):.1f}" if share else "–"


def interval(row: dict[str, str], of: str) -> str:
    return f"[{100 * float(row[f'{of}_low']):.1f}, {100 * float(row[f'{of}_high']):.1f}]"


def motion(positions: dict, cell: str) -> str:
    return " and ".join(f"{100 * seed[cell]['motion']:.0f}" for seed in positions["seeds"].values())


def span(values: list[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


def marks(name: str) -> tuple[str, str]:
    """The lines around a block in the README."""
    return f"<!-- {name}:start -->\n", f"<!-- {name}:end -->\n"


def main() -> None:
    for name, block in BLOCKS.items():
        rewrite(ROOT / "README.md", *marks(name), block())


if __name__ == "__main__":
    main()
