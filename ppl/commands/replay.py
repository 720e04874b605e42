"""``ppl replay``."""

from __future__ import annotations

import argparse
import sys


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "replay",
        help="where a step that a run skipped stops being finite: ppl replay runs/x/non_finite/step_7_rank_0_batch_0 "
        "--checkpoint runs/x/checkpoints/last-stopped.ckpt",
        description="Run a batch that NonFiniteSteps kept once more: its loss, and the first weights, outputs and "
        "gradients that are not finite.",
        epilog="Exact with the weights of that step: those of last-stopped.ckpt for the batch that stopped the run, "
        "else those of the checkpoint before it. docs/robust_runs.md tells more.",
    )
    parser.add_argument("batch", help="folder of a kept batch")
    parser.add_argument("--checkpoint", required=True, help="a checkpoint of the run")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (default: %(default)s)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from ppl import checkpoints
    from ppl.callbacks.kept_batch import read_batch
    from ppl.callbacks.replay import replay

    kept = read_batch(options.batch)
    module = checkpoints.load(options.checkpoint).to(options.device)
    sys.stdout.write("\n".join(replay(module, kept)) + "\n")
