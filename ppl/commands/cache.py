"""``ppl cache``."""

from __future__ import annotations

import argparse

from ppl.commands.recipe_words import add_recipe_parser

_EPILOG = """\
Words that are not its own are read as `ppl fit` reads them, so give it the run's very words:
  ppl cache -c recipes/experiments/sft_video_llava.yaml --model.cache.folder=features
The size is printed before anything is written, and a disk that is too small is refused. What is there is skipped, so
that it goes on where it was stopped. Decoding takes data.num_workers processes, the tower data.batch_size media at a
time, on the trainer's accelerator and in its precision. What a folder can be shared by: docs/cache.md."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument(
        "--split",
        action="append",
        choices=("train", "val", "test", "predict"),
        help="of the data; may be given repeatedly (default: train and, if there is one, val)",
    )
    own.add_argument("--dry-run", action="store_true", help="print the size and write nothing")
    what = "compute the frozen vision tower's features ahead of a run: ppl cache -c RECIPE"
    add_recipe_parser(commands, "cache", own, _run, what, _EPILOG)


def _run(options: argparse.Namespace) -> None:
    from ppl.caching.run import run_cache

    run_cache(options, options.recipe)
