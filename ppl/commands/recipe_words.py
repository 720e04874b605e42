"""Subcommands that take a recipe's words beside their own."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any


def add_recipe_parser(
    commands: argparse._SubParsersAction,
    name: str,
    own: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], None],
    what: str,
    epilog: str,
) -> None:
    """Add a subcommand that takes ``-c`` and the recipe's words beside its own options.

    Args:
        commands: What to add it to.
        name: Of the subcommand.
        own: Its own options.
        run: Called with the namespace, in which ``recipe`` holds the recipe's words.
        what: It does, in a line.
        epilog: Of its help; lines stay as they are.
    """
    formatter = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        name, help=what, epilog=epilog, formatter_class=formatter, allow_abbrev=False, parents=[own]
    )
    parser.add_argument("-c", "--config", action="append", required=True, help="recipe of fine-tuning, then overlays")
    parser.set_defaults(run=run)
    parser.parse_known_args = RecipeWords(parser, own)


class RecipeWords:
    """Parses in place of a subcommand's parser: what is not its own goes, in order, to ``recipe`` of the namespace.

    A later word wins, file or not, so ``-c`` is among them.

    Args:
        parser: The subcommand's.
        own: Its own options, without ``-c``.
    """

    def __init__(self, parser: argparse.ArgumentParser, own: argparse.ArgumentParser) -> None:
        self.parse = parser.parse_known_args
        self.own = own

    def __call__(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # noqa: ANN401
        """As `argparse.ArgumentParser.parse_known_args`, with nothing unknown."""
        known, _ = self.parse(args, namespace)
        known.recipe = self.own.parse_known_args(args)[1]
        return known, []
