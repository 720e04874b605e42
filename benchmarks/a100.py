"""``python -m benchmarks.a100``: put into docs/a100.md how each recipe runs on 8 and 16 A100s, and what it will take.

Everything between the marks is made: the commands by the recipes' own words, the numbers by ``ppl plan``.
"""

from __future__ import annotations

import io
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from rich.console import Console

from benchmarks.marked import rewrite
from ppl.planning.plan import Options, make_plan
from ppl.planning.recipe import build_model, read_recipe
from ppl.planning.report import show

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "a100.md"
START, END = "<!-- planned: python -m benchmarks.a100 -->\n", "<!-- /planned -->\n"
RECIPES = ("sft_llava_next", "sft_llava_video", "sft_internvl3", "sft_video_llava", "pretrain_video_llava")
MACHINES = {8: "recipes/overlays/fsdp_8_a100.yaml", 16: "recipes/overlays/fsdp_16_a100.yaml"}
BATCHES = {"sft_video_llava": 128}
"""Samples of an optimiser step, where the recipe's are not the overlays' 256."""
GIB = 2**30


class Planned(NamedTuple):
    """A recipe on so many GPUs: the words of ``ppl fit`` without its data, and the plan."""

    words: list[str]
    plan: dict[str, Any]


@cache
def planned(name: str, gpus: int) -> Planned:
    """Plan a recipe on 8 or 16 GPUs."""
    words = ["-c", f"recipes/experiments/{name}.yaml", "-c", MACHINES[gpus]]
    overlay = yaml.safe_load((ROOT / MACHINES[gpus]).read_text(encoding="utf-8"))
    samples = BATCHES.get(name, 256)
    steps = samples // (gpus * overlay["data"]["init_args"]["batch_size"])
    if steps != overlay["trainer"]["accumulate_grad_batches"]:
        words.append(f"--trainer.accumulate_grad_batches={steps}")
    recipe = read_recipe([str(ROOT / word) if word.endswith(".yaml") else word for word in words])
    with warnings.catch_warnings():  # without Lightning's own CLI, hparams hold live modules
        warnings.filterwarnings("ignore", message="Attribute .* is an instance of `nn.Module`")
        module, origin = build_model(recipe)
    return Planned(words, make_plan(module, recipe, origin, Options(gpus=gpus)))


def sharded(plan: dict[str, Any]) -> dict[str, Any]:
    """The row of the overlay: FSDP1, activations computed again."""
    rows = plan["memory"]["rows"]
    own = [row for row in rows if row["training"] == rows[0]["training"]]
    return next(row for row in own if row["strategy"] == "fsdp1" and row["checkpointing"])


def line(name: str) -> str:
    """A recipe's row of the first table."""
    eight, sixteen = (planned(name, gpus).plan for gpus in MACHINES)
    memory = [f"{sharded(plan)['total'] / GIB:.0f}" for plan in (eight, sixteen)]
    work = eight["flops"]["pooled"]["training"] + eight["flops"]["pooled"]["checkpointing"]
    cells = [
        f"[{name}](#{name})",
        f"{eight['parameters']['trainable'] / 1e9:.2f}",
        str(eight["tokens"]["video"]["pooled"]),
        str(BATCHES.get(name, 256)),
        f"{work / 1e12:.0f}",
        *memory,
    ]
    return "| " + " | ".join(cells) + " |"


def section(name: str) -> str:
    """A recipe's commands, and what ``ppl plan`` prints of it."""
    eight, sixteen = (" ".join(planned(name, gpus).words) for gpus in MACHINES)
    data = "--data.train_files='[train.jsonl]' --data.media_root=videos"
    printed = io.StringIO()
    show(planned(name, 8).plan, Console(file=printed, width=100, highlight=False, color_system=None))
    text = "\n".join(row.rstrip() for row in printed.getvalue().splitlines())
    lines = [
        f"## {name}\n",
        "```bash",
        f"ppl plan {eight} --gpus 8",
        f"GPUS=8 recipes/launch/torchrun.sh {eight} \\\n    {data}",
        "# on each of two machines:",
        f"NODES=2 GPUS=8 HEAD=first-host recipes/launch/torchrun.sh {sixteen} \\\n    {data}",
        "```\n",
        f"```text\n{text}\n```\n",
    ]
    return "\n".join(lines)


def made() -> str:
    """All that stands between the marks."""
    table = [
        "| recipe | weights that train, 10⁹ | visual tokens of a video | batch | TFLOP of a video, training "
        "| GiB of each of 8 | of each of 16 |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(line(name) for name in RECIPES),
    ]
    return "\n".join([*table, "", *(section(name) for name in RECIPES)])


def main() -> None:
    """Rewrite the page between the marks."""
    rewrite(PAGE, START, END, made())


if __name__ == "__main__":
    main()
