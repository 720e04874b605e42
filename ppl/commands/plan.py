"""``ppl plan``."""

from __future__ import annotations

import argparse

from ppl.commands.recipe_words import add_recipe_parser

_EPILOG = """\
Words that are not its own are read as `ppl fit` reads them, so a run is planned by its very words:
  ppl plan -c recipes/experiments/sft_llava_next.yaml
  ppl plan -c recipes/experiments/sft_llava_video.yaml -c recipes/overlays/lora.yaml --gpus 16
  ppl plan -c recipes/experiments/sft_llava_next.yaml --model.pooler=recipes/parts/poolers/average.yaml
No weights, tokenizer or data are needed: the model is built on the meta device from the backbone's config.json, which
is looked for in the folder that the recipe names, among the architectures that come with ppl, then in the hub's cache
and on the hub. What is estimated, how, and how well: docs/plan.md."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    what = "parameters, visual tokens, FLOPs and memory of a run, before paying for it: ppl plan -c RECIPE"
    add_recipe_parser(commands, "plan", _own_options(), _run, what, _EPILOG)


def _own_options() -> argparse.ArgumentParser:
    """All but ``-c``, which is the recipe's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--gpus", type=int, default=8, help="GPUs of DDP and FSDP (default: %(default)s)")
    parser.add_argument(
        "--gpu-memory", type=float, default=80.0, help="GiB of one, to say what fits (default: %(default)g, an A100)"
    )
    parser.add_argument(
        "--prompt-tokens", type=int, default=100, help="of the question and the system's words (default: %(default)s)"
    )
    parser.add_argument("--answer-tokens", type=int, default=100, help="of the answer (default: %(default)s)")
    parser.add_argument(
        "--lora-rank", type=int, default=128, help="of the LoRA rows, if the recipe has none (default: %(default)s)"
    )
    parser.add_argument(
        "--source", help="folder or hub id to read the backbone's config.json from, in place of the recipe's"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the numbers there; -: only them, to the terminal")
    return parser


def _run(options: argparse.Namespace) -> None:
    from ppl.planning.report import run_plan
    from ppl.recipe_files import check_recipes

    check_recipes(options.recipe)
    run_plan(options, options.recipe)
