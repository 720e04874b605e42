"""``python -m benchmarks.leaderboard``: make docs/leaderboard.md from committed results.

``benchmarks/results/leaderboard/POOLER.json`` is what ``ppl score --json`` wrote of one pooler's runs on the embedded
world, by any number of protocols; ``benchmarks/published.yaml`` is what the papers print.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "leaderboard"
PUBLISHED = ROOT / "benchmarks" / "published.yaml"
PAGE = ROOT / "docs" / "leaderboard.md"
SCORES = {
    "multiple choice": ("accuracy", "form=multiple_choice"),
    "yes/no": ("accuracy", "form=yes_no"),
    "exact match": ("exact_match", "form=open_ended"),
    "token F1": ("token_f1", "form=open_ended"),
}
POOLERS = ("weighted", "average", "max")
COMMANDS = """\
python -m ppl.datamodules.synthetic
ppl fit -c recipes/experiments/tiny_align.yaml
for pooler in {poolers}; do
  run=runs/leaderboard/$pooler
  ppl fit -c recipes/experiments/tiny_sft.yaml --data.num_questions=25600 \\
    --model.pooler=recipes/parts/poolers/$pooler.yaml --trainer.default_root_dir=$run
  for listed in false true; do
    ppl predict -c recipes/eval/embedded_world.yaml --model=ppl.checkpoints.load \\
      --model.path=$run/checkpoints/last.ckpt --data.protocol.list_options=$listed \\
      --trainer.default_root_dir=$run/listed_$listed
  done
  ppl score $run/listed_false $run/listed_true --json benchmarks/results/leaderboard/$pooler.json
done
python -m benchmarks.leaderboard
"""


def page(reports: dict[str, list[dict[str, Any]]], published: dict[str, Any]) -> str:
    """The whole page.

    Args:
        reports: What ``ppl score --json`` wrote, by pooler.
        published: What is in `PUBLISHED`.
    """
    return "\n".join(
        [
            "# Leaderboard",
            "",
            "Made by `python -m benchmarks.leaderboard` from committed files: do not edit.",
            "",
            "## Poolers and protocols in the embedded world",
            "",
            *_measured(reports, published["poolers"]),
            "",
            "Made by:",
            "",
            "```bash",
            COMMANDS.format(poolers=" ".join(POOLERS)).rstrip(),
            "```",
            "",
            "## The papers' numbers: published, not re-run",
            "",
            "Each beside the recipes that would reproduce it: train with the first, then `ppl predict -c` the second, "
            "and `ppl score`. Judged numbers are gpt-3.5-turbo's, PPLLaVA's of its version 0613.",
            "",
            *(line for model in published["models"] for line in _published(model)),
        ]
    )


def _measured(reports: dict[str, list[dict[str, Any]]], published: dict[str, str]) -> Iterator[str]:
    if not reports:
        yield "No result is committed yet: `benchmarks/results/leaderboard` is empty."
        return
    yield (
        "One seed, questions about 200 videos that are in no other split, in %, with 95 % intervals (videos "
        "resampled). Chance is 35 for multiple choice (three types with four options, two with two) and 50 for yes/no. "
        "The last column is of another benchmark and another model: Video-MME with subtitles."
    )
    yield ""
    yield f"| pooler | protocol | {' | '.join(SCORES)} | answered | unparsed | model | published, not re-run |"
    yield "|---|---|" + "---:|" * (len(SCORES) + 2) + "---|---:|"
    for pooler, runs in reports.items():
        for report in runs:
            cells = [pooler, protocol(report), *(_score(report, *which) for which in SCORES.values())]
            cells += [f"{report['answered']} of {report['total']}", str(report["unparsed"]), report["model"]]
            yield f"| {' | '.join(cells)} | {published.get(pooler, '–')} |"


def _published(model: dict[str, Any]) -> Iterator[str]:
    yield f"### {model['title']}: `{model['recipe']}`"
    yield ""
    yield "| benchmark | recipe | published, not re-run | source |"
    yield "|---|---|---:|---|"
    for benchmark, recipe, number, source in model["numbers"]:
        name, _, options = recipe.partition(", ")
        words = f"`recipes/eval/{name}.yaml{' ' + options if options else ''}`"
        yield f"| {benchmark} | {words} | {number} | {source} |"
    yield ""


def protocol(report: dict[str, Any]) -> str:
    """Name, version and arguments: ``official-1 (list_options=False)``."""
    told = report["protocol"]
    arguments = ", ".join(f"{name}={value}" for name, value in told["init_args"].items())
    return f"{told['name']}-{told['version']}" + (f" ({arguments})" if arguments else "")


def _score(report: dict[str, Any], metric: str, group: str) -> str:
    for score in report["scores"]:
        if (score["metric"], score["group"]) == (metric, group) and score["value"] is not None:
            interval = "" if score["low"] is None else f" [{score['low']:.1f}, {score['high']:.1f}]"
            return f"{score['value']:.1f}{interval}"
    return "–"


def committed() -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """What the page is made of."""
    reports = {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}
    return reports, yaml.safe_load(PUBLISHED.read_text())


def main() -> None:
    PAGE.write_text(page(*committed()))


if __name__ == "__main__":
    main()
