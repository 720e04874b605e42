"""Protocols of one's own; ``ppl score`` and ``ppl compare`` share the option that imports them."""

from __future__ import annotations

import argparse
import importlib


def add_protocol_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module of yours whose protocol the answers name, from PYTHONPATH; may be repeated. What answers "
        "name outside ppl is not imported otherwise",
    )


def import_protocols(options: argparse.Namespace) -> None:
    """Import what the command line names.

    Raises:
        ValueError: It cannot be imported.
    """
    for module in options.modules:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise ValueError(
                f"got --import {module}, expected a module that can be imported ({error}): put its folder on PYTHONPATH"
            ) from error
