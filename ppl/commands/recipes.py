"""``ppl recipes``: what an installed ppl has in place of a checkout's ``recipes/``."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from itertools import dropwhile, takewhile
from pathlib import Path

from ppl.recipe_folder import recipe_folder

_COMMANDS = ("ppl ", "python ", "-- ", "Needs: ")
"""What the first lines of a recipe's head begin with: how to run it."""
_LONGEST = 110


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "recipes",
        help="list the recipes that come with ppl, or copy them: ppl recipes --copy-to .",
        description="Without options: every recipe, with a line about it. Recipes name other files from the folder "
        "that ppl is started in, so a copy is a folder `recipes`, beside which ppl is to be started.",
        epilog="example: ppl recipes --copy-to .",
    )
    parser.add_argument(
        "--copy-to", type=Path, metavar="FOLDER", help="write FOLDER/recipes, which must not be there yet"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    source = recipe_folder()
    sys.stdout.write("".join(_listed(source)) if options.copy_to is None else _copied(source, options.copy_to))


def _listed(source: Path) -> Iterator[str]:
    names = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*.yaml"))}
    width = max(map(len, names))
    for name, path in names.items():
        yield f"{name:{width}}  {_description(path.read_text(encoding='utf-8'))}\n"
    yield "\n`ppl recipes --copy-to .` writes them into this folder, as recipes/, where recipes/README.md tells more.\n"


def _description(recipe: str) -> str:
    """The first sentence of the comment that a recipe begins with, else the class that it names."""
    head = takewhile(lambda line: line.startswith("#"), recipe.splitlines())
    text = " ".join(dropwhile(lambda line: line.startswith(_COMMANDS), (line.lstrip("# ") for line in head)))
    if not text:
        return recipe.partition("class_path: ")[2].partition("\n")[0].rpartition(".")[2]
    return textwrap.shorten(
        re.split(r"(?<=[.?]) (?=[A-Z])", text)[0], _LONGEST, placeholder=" …", break_on_hyphens=False
    )


def _copied(source: Path, folder: Path) -> str:
    """Copy, and say where to go on.

    Raises:
        ValueError: Something of that name is there.
    """
    target = folder / "recipes"
    if os.path.lexists(target):
        msg = f"got {target}, which is there already, expected a new folder: move it away, or name another --copy-to"
        raise ValueError(msg)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    return f"wrote {target}; from {folder.absolute()}: ppl fit -c recipes/experiments/tiny_align.yaml\n"
