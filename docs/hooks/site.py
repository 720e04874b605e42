"""What the site has beside the pages in ``docs``: pages made from the code, the README's numbers, linked files.

MkDocs calls the functions below; ``mkdocs.yml`` names this file.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # of `mkdocs build`; `python -m mkdocs build` has it

from mkdocs.structure.files import File, Files  # noqa: E402

from docs.hooks.cards import cards_page  # noqa: E402
from docs.hooks.command_line import command_line_page  # noqa: E402
from docs.hooks.modules import api_pages  # noqa: E402
from docs.hooks.recipe_arguments import recipe_arguments_page  # noqa: E402

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

MEASURED = ("## What guidance buys, measured", "## Use it")
"""The part of the README that becomes a page of its own: from the first heading to the second."""
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")
"""A relative link's target, without its fragment."""


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of the API behind those that ``mkdocs.yml`` lists."""
    assert config.nav is not None
    config.nav.append(
        {"API": [{name.removesuffix(".md"): f"reference/api/{name}"} for name in api_pages(ROOT / "ppl")]}
    )


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages that are made here, and the files outside of ``docs`` that pages link to."""
    made = {
        "measured.md": measured(),
        "recipes/README.md": (ROOT / "recipes/README.md").read_text(encoding="utf-8"),
        "reference/command_line.md": command_line_page(),
        "reference/recipe_arguments.md": recipe_arguments_page(),
        "reference/model_cards.md": cards_page(ROOT),
        **{f"reference/api/{name}": text for name, text in api_pages(ROOT / "ppl").items()},
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    written = [(page.src_uri, page.content_string) for page in files.documentation_pages()]
    for name in sorted({target for uri, text in written for target in linked_files(uri, text)} - set(made)):
        if files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:  # noqa: ANN401  what MkDocs hands on
    """Turn links between files of the repository into links between files of the site."""
    uri = page.file.src_uri
    return LINK.sub(lambda found: _in_site(uri, found[0]), markdown)


def _in_site(uri: str, link: str) -> str:
    path = target_of(uri, link)
    return link if path is None else "../" * uri.count("/") + place(path)


def measured() -> str:
    """The README's numbers, as a page."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    begin, end = (text.index(f"\n{heading}\n") for heading in MEASURED)
    return "# Measured\n" + text[begin:end].replace("](docs/", "](").replace("](benchmarks/", "](../benchmarks/")


def target_of(uri: str, link: str) -> Path | None:
    """The file of the repository that a page's link leads to, if there is one."""
    page = ROOT / uri if uri.startswith("recipes/") else ROOT / "docs" / uri
    path = (page.parent / link).resolve()
    return path if path.is_file() and path.is_relative_to(ROOT) else None


def place(path: Path) -> str:
    """Where a file of the repository is in the site: what is in ``docs`` at its top, the rest below that.

    Of the README there is the part with numbers alone.
    """
    if path == ROOT / "README.md":
        return "measured.md"
    home = ROOT / "docs" if path.is_relative_to(ROOT / "docs") else ROOT
    return path.relative_to(home).as_posix()


def linked_files(uri: str, text: str) -> set[str]:
    """Files outside of ``docs`` that a page links to, by their place in the site."""
    paths = [target_of(uri, link) for link in LINK.findall(text)]
    return {place(path) for path in paths if path is not None and not path.is_relative_to(ROOT / "docs")}
