"""Find the part of a recipe that describes a pooler, by its path or its name."""

from __future__ import annotations

import difflib
from pathlib import Path

_PARTS = Path("recipes/parts/poolers")
_FOLDERS = (_PARTS, Path(__file__).parents[1] / _PARTS, Path(__file__).parents[2] / _PARTS)
"""Beside the user, in an installed package, in a checkout."""


def pooler_files() -> dict[str, Path]:
    """All poolers that have a name: the user's own recipes come before those of ppl."""
    found = [path for folder in reversed(_FOLDERS) for path in sorted(folder.glob("*.yaml"))]
    return {path.stem: path for path in found}


def pooler_file(name: str) -> Path:
    """Give the file of a pooler.

    Args:
        name: Of one of `pooler_files`, or a path.

    Raises:
        ValueError: It is neither.
    """
    files = pooler_files()
    if name in files:
        return files[name]
    if Path(name).suffix:
        return Path(name).expanduser()
    nearest = difflib.get_close_matches(name, files, n=1, cutoff=0)
    meant = f" (perhaps {nearest[0]}?)" if nearest else ""
    expected = f"a file like {_PARTS}/average.yaml, or one of {', '.join(sorted(files))}"
    msg = f"got pooler {name!r}{meant}, expected {expected}"
    raise ValueError(msg)
