"""Which version of the program runs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).parents[2]


def source() -> dict[str, Any]:
    """Commit of the checkout, and the files that differ from it; null where the package is installed.

    A checkout that git cannot tell of keeps nobody from training: why is then said under ``unknown``, beside nulls.
    """
    if not (_CHECKOUT / ".git").exists():
        return {"commit": None, "changed": None}
    try:
        commit, changed = _git("rev-parse", "HEAD").strip(), _git("status", "--porcelain").splitlines()
    except FileNotFoundError:
        return {"commit": None, "changed": None, "unknown": "there is no program git to ask"}
    except subprocess.CalledProcessError as error:  # it distrusts another user's folder, say, or has no commit yet
        return {"commit": None, "changed": None, "unknown": error.stderr.strip()}
    return {"commit": commit, "changed": [line[3:] for line in changed]}


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=_CHECKOUT, capture_output=True, text=True, check=True).stdout
