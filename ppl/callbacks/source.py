"""Which version of the program runs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).parents[2]


def source() -> dict[str, Any]:
    """Commit of the checkout, and the files that differ from it; null where the package is installed."""
    if not (_CHECKOUT / ".git").exists():
        return {"commit": None, "changed": None}
    changed = [line[3:] for line in _git("status", "--porcelain").splitlines()]
    return {"commit": _git("rev-parse", "HEAD").strip(), "changed": changed}


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=_CHECKOUT, capture_output=True, text=True, check=False).stdout
