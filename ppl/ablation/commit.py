"""Which version of the program ran."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

_CHECKOUT = Path(__file__).parents[2]


@cache
def commit() -> str:
    """The checkout's commit, with ``+changes`` if files differ from it; ``unknown`` where the package is installed."""
    if not (_CHECKOUT / ".git").exists():
        return "unknown"
    return _git("rev-parse", "HEAD") + ("+changes" if _git("status", "--porcelain") else "")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=_CHECKOUT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
