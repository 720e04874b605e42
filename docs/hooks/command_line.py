"""The reference of the command line: what the parsers themselves print."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections.abc import Iterator
from unittest.mock import patch

from ppl.cli import LIGHTNING_SUBCOMMANDS, build_parser
from ppl.training_cli import run_training_cli

INTRODUCTION = """\
# Command line

What `ppl SUBCOMMAND --help` prints; made from the parsers when this site is built. `fit`, `validate`, `test` and
`predict` take recipes: what those may hold is in [recipes, key by key](recipe_arguments.md).
"""


def command_line_page() -> str:
    """One section a subcommand."""
    with patch.dict(os.environ, {"COLUMNS": "100"}):
        sections = [_section(name, parser.format_help()) for name, parser in parsers(build_parser(), "ppl")]
        sections.append(_section("ppl fit", lightning_help("fit")))
    return "\n".join([INTRODUCTION, *sections])


def parsers(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A parser and those of its subcommands, with their full names."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, child in action.choices.items():
                if word not in LIGHTNING_SUBCOMMANDS:
                    yield from parsers(child, f"{name} {word}")


def lightning_help(subcommand: str) -> str:
    """What ``--help`` of a subcommand of Lightning's prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        run_training_cli([subcommand, "--help"])
    return printed.getvalue()


def _section(name: str, text: str) -> str:
    return f"## {name}\n\n```text\n{text.strip()}\n```\n"
