"""Where the recipes are that come with ppl."""

from __future__ import annotations

from pathlib import Path


def recipe_folder() -> Path:
    """The folder ``recipes`` of an installed package, or of the checkout that runs."""
    package = Path(__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"
