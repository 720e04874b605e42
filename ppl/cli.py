"""The ``ppl`` program: Lightning's subcommands from YAML recipes, and the tools around a trained model.

Heavy libraries are imported by the subcommand that needs them, so that ``ppl --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ppl import __version__
from ppl.commands import (
    ablate,
    cache,
    chat,
    compare,
    convert,
    data,
    demo,
    export,
    heatmap,
    plan,
    recipes,
    redundancy,
    replay,
    score,
    serve,
)
from ppl.extras import MissingExtraError
from ppl.runtime import configure_process

LIGHTNING_SUBCOMMANDS = {
    "fit": "train from a recipe: ppl fit -c recipes/experiments/tiny_sft.yaml",
    "validate": "loss and accuracy on the validation split: ppl validate -c runs/x/config.yaml "
    "--ckpt_path runs/x/checkpoints/last.ckpt",
    "test": "the same on the test split",
    "predict": "answer the predict split and write runs/x/predictions.jsonl; asked as validate is",
}
TOOLS = (
    recipes,
    chat,
    serve,
    demo,
    cache,
    heatmap,
    ablate,
    redundancy,
    convert,
    plan,
    data,
    export,
    replay,
    score,
    compare,
)


def main(args: Sequence[str] | None = None) -> None:
    """Run one subcommand; ``args`` default to the command line."""
    configure_process()
    words = list(sys.argv[1:] if args is None else args)
    is_training = bool(words) and words[0] in LIGHTNING_SUBCOMMANDS
    options = None if is_training else build_parser().parse_args(words)
    try:
        if options is None:
            _train(args)
        else:
            options.run(options)
    except (ValueError, OSError, MissingExtraError) as error:
        told = None if os.environ.get("PPL_TRACEBACK") == "1" else _told_to_the_user(error)
        if told is None:
            raise
        sys.exit("\n".join([f"ppl {words[0]}: {told}", *getattr(told, "__notes__", [])]))


def _told_to_the_user(error: BaseException | None) -> BaseException | None:
    """Find the message of ours, of a file or of a missing extra, in what was raised; anything else is a bug to trace.

    jsonargparse wraps what a class raises when it is made.
    """
    while error is not None:
        files = [
            frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)
        ]  # none if never raised
        ours = bool(files) and Path(files[-1]).is_relative_to(Path(__file__).parent)
        of_a_file = isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.filename is not None)
        if of_a_file or isinstance(error, MissingExtraError) or (ours and isinstance(error, ValueError)):
            return error
        error = error.__cause__
    return None


def build_parser() -> argparse.ArgumentParser:
    """The parser of everything that is not Lightning's."""
    parser = argparse.ArgumentParser(
        prog="ppl",
        description="Prompt-guided pooling for video language models.",
        epilog="`ppl SUBCOMMAND --help` shows a subcommand's options; `ppl recipes` lists and copies recipes. "
        "PPL_TRACEBACK=1 in the environment shows where in the program an error arose.",
    )
    parser.add_argument("--version", action="version", version=f"ppl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="SUBCOMMAND")
    for name, text in LIGHTNING_SUBCOMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    for command in TOOLS:
        command.add_parser(commands)
    return parser


def _train(args: Sequence[str] | None) -> None:
    from ppl.training_cli import run_training_cli

    run_training_cli(args)


if __name__ == "__main__":
    main()
