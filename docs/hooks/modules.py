"""The API reference: a page for each package, every public module on it; mkdocstrings fills them from docstrings."""

from __future__ import annotations

from pathlib import Path


def api_pages(package: Path) -> dict[str, str]:
    """Name of a page -> its text, package by package."""
    pages = {}
    for folder in sorted({file.parent for file in package.rglob("*.py")}):
        name = ".".join(folder.relative_to(package.parent).parts)
        modules = [f"{name}.{file.stem}" for file in sorted(folder.glob("*.py")) if not file.stem.startswith("_")]
        if modules:
            pages[f"{name}.md"] = "\n".join([f"# {name}\n", *(f"::: {module}\n" for module in modules)])
    return pages
