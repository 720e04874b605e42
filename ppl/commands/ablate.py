"""``ppl ablate``."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    ablate = commands.add_parser(
        "ablate",
        help="train, test and compare a grid of recipes: ppl ablate -c recipes/ablations/tiny_pooling.yaml",
        description="Train, test and compare a grid: rows (ways to change one base recipe) x seeds, controls included.",
        epilog="example: ppl ablate -c recipes/ablations/tiny_pooling.yaml --dry-run. "
        "Finished cells are never run again: start it once more after an interruption, "
        "or with more seeds. docs/ablations.md tells more.",
    )
    ablate.add_argument("-c", "--config", required=True, help="an ablation, such as those in recipes/ablations")
    ablate.add_argument("-o", "--output", help="folder (default: runs/ablations/ and the ablation's name)")
    ablate.add_argument("--seeds", type=int, nargs="+", help="instead of the ablation's own")
    ablate.add_argument(
        "--devices", help="one process at a time on each: 0,1 for GPUs, cpu,cpu (default: all GPUs, else up to 4 cores)"
    )
    ablate.add_argument("--report-only", action="store_true", help="run nothing, write the report of what is finished")
    ablate.add_argument("--dry-run", action="store_true", help="print every command and whether it has to be run")
    ablate.add_argument(
        "arguments", nargs="*", metavar="-- WORD", help="words for `ppl fit` and `ppl test` of all cells"
    )
    ablate.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from ppl.ablation.grid import run_ablate

    run_ablate(options)
