"""Find the part of a recipe that describes a pooler, by its path or its name."""

from __future__ import annotations

import difflib
from pathlib import Path

from ppl.recipe_folder import recipe_folder

_PARTS = Path("recipes/parts/poolers")


def pooler_files() -> dict[str, Path]:
    """All poolers that have a name: the user's own recipes come before those of ppl."""
    folders = recipe_folder().parent / _PARTS, _PARTS
    found = [path for folder in folders for path in sorted(folder.glob("*.yaml"))]
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
