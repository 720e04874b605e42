"""``ppl data``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from ppl.commands.recipe_words import RecipeWords

_RECIPE = """\
Words beside -c are read as `ppl fit` reads them: a recipe's data are looked at by its very words.
  ppl data {0} train.jsonl --media-root videos
  ppl data {0} -c recipes/experiments/sft_llava_next.yaml --data.train_files='[train.jsonl]'
  ppl data {0} -c recipes/eval/videomme.yaml --data.benchmark.root=FOLDER
A benchmark's recipe needs no model; its questions' media are looked at.
Exit status: 0 if all is well, 1 if something cannot be read, 2 if the command line is at fault.
docs/data.md has the forms."""


class _FilesOrRecipe(RecipeWords):
    """Takes annotation files; or, with ``-c``, leaves all words that are not its own to the recipe."""

    def __call__(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # noqa: ANN401
        known, unknown = self.parse(args, namespace)
        if known.config:
            return super().__call__(args, namespace)
        known.recipe = []
        return known, unknown


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    data = commands.add_parser(
        "data",
        help="check, count or convert annotation files: ppl data check train.jsonl",
        epilog="example: ppl data check train.jsonl --media-root videos. `ppl data ACTION --help` has more; "
        "docs/data.md the forms of records.",
    )
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_action(
        actions, "check", "open every medium; list what is broken, and how long samples are for a recipe's model"
    )
    _add_action(actions, "stats", "count records, media, seconds, frames, turns and words of answers, by source")
    _add_convert(actions)


def _add_action(actions: argparse._SubParsersAction, name: str, text: str) -> None:
    own = _own_options()
    own.add_argument(
        "--workers",
        type=int,
        default=min(8, os.cpu_count() or 1),
        help="media at a time; each has a process that decodes (default: %(default)s)",
    )
    parser = actions.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=_RECIPE.format(name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=[own],
    )
    parser.add_argument("files", metavar="FILE", nargs="*", help="annotation files, of any form")
    parser.add_argument("-c", "--config", action="append", help="in place of files: a recipe, then overlays")
    parser.set_defaults(run=_run)
    parser.parse_known_args = _FilesOrRecipe(parser, own)


def _own_options() -> argparse.ArgumentParser:
    """All but files and ``-c``, which may be the recipe's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--media-root", metavar="FOLDER", help="of relative media paths (default: each file's own)")
    parser.add_argument("--report", metavar="FILE", help="write what is broken as JSON lines, all of it")
    return parser


def _add_convert(actions: argparse._SubParsersAction) -> None:
    parser = actions.add_parser(
        "convert",
        help="write records of any form as JSON lines of messages: ppl data convert train.json --to messages -o OUT",
        description="Write records of any form as JSON lines of messages, which read back to the same records.",
        epilog="example: ppl data convert train.json --to messages -o out.jsonl. "
        "Exit status: 0 if all was converted, 1 if some records cannot be read and were left out, 2 if the "
        "command line is at fault.",
        parents=[_own_options()],
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="annotation files, of any form")
    parser.add_argument("--to", choices=["messages"], default="messages", help="form to write (default: %(default)s)")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="JSON lines to write")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.set_defaults(run=_run, recipe=[])


def _run(options: argparse.Namespace) -> None:
    if options.action == "check":
        from ppl.inspection.check import run_check as run
    elif options.action == "stats":
        from ppl.inspection.stats import run_stats as run
    else:
        from ppl.inspection.messages import run_convert as run
    run(options)
