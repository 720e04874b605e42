"""Which version of the program ran, as one word."""

from __future__ import annotations

from functools import cache

from ppl.callbacks.source import source


@cache
def commit() -> str:
    """The checkout's commit, with ``+changes`` if files differ from it; ``unknown`` where the package is installed."""
    found = source()
    return "unknown" if found["commit"] is None else found["commit"] + ("+changes" if found["changed"] else "")
