"""Subcommands that take a recipe's words beside their own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


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
