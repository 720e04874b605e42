"""``python -m benchmarks.recipes``: put into recipes/README.md what ``ppl plan`` estimates for each large recipe."""

from __future__ import annotations

import warnings
from pathlib import Path

from benchmarks.marked import rewrite
from ppl.planning.plan import Options, make_plan
from ppl.planning.recipe import build_model, read_recipe

ROOT = Path(__file__).parents[1]
README = ROOT / "recipes" / "README.md"
START, END = "<!-- planned: python -m benchmarks.recipes -->\n", "<!-- /planned -->\n"
RECIPES = ("sft_llava_next", "sft_llava_video", "sft_internvl3", "sft_video_llava")
FORMS = {"full": [], "LoRA": ["recipes/overlays/lora.yaml"]}
GPUS = 16
"""A100s of the papers."""


def row(name: str, form: str) -> str:
    """One recipe in one form: its command, what trains, and the memory of a GPU with 80 GiB."""
    files = [f"recipes/experiments/{name}.yaml", *FORMS[form]]
    words = [word for file in files for word in ("-c", file)]
    recipe = read_recipe(words)
    with warnings.catch_warnings():  # without Lightning's own CLI, hparams hold live modules
        warnings.filterwarnings("ignore", message="Attribute .* is an instance of `nn.Module`")
        module, origin = build_model(recipe)
    plan = make_plan(module, recipe, origin, Options(gpus=GPUS))
    rows = plan["memory"]["rows"]  # first those of the recipe as it is, then what adapters would need
    memory = {r["strategy"]: r for r in rows if r["training"] == rows[0]["training"] and not r["checkpointing"]}
    alone, shared = (f"{memory[kind]['total'] / 2**30:.0f}" for kind in ("single", "fsdp2"))
    fits = "" if memory["single"]["fits"] else " (does not fit)"
    trained = plan["parameters"]["trainable"] / 1e9
    accumulate = recipe.trainer["accumulate_grad_batches"]
    batch = f"{recipe.trainer['devices']} × {plan['memory']['batch_size']} × {accumulate}"
    cells = [
        f"[{name}](experiments/{name}.yaml), {form}",
        f"`ppl fit {' '.join(words)} --data.train_files='[train.jsonl]' --data.media_root=videos`",
        batch,
        str(plan["tokens"]["video"]["pooled"]),
        f"{trained:.2f}",
        alone + fits,
        shared,
    ]
    return "| " + " | ".join(cells) + " |"


def table() -> str:
    """All rows, in markdown."""
    lines = [
        "| experiment, form | command | GPUs × batch × accumulated | visual tokens of a video "
        f"| weights that train, 10⁹ | GiB of 1 GPU | of each of {GPUS}, FSDP2 |",
        "|---|---|---|---:|---:|---:|---:|",
        *(row(name, form) for name in RECIPES for form in FORMS),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Rewrite the table between the markers."""
    rewrite(README, START, END, table())


if __name__ == "__main__":
    main()
