"""The site builds strictly, has a page for whatever it should, and loads nothing from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import urlparse

import pytest
import yaml

from ppl.cli import LIGHTNING_SUBCOMMANDS, build_parser
from tests.docs.blocks import PAGES
from tests.modules.tiny import ROOT
from tests.recipes.discovery import found

LOADING = {"audio", "embed", "iframe", "img", "link", "object", "script", "source", "track", "video"}
"""Elements whose ``src``, ``href`` or ``data`` a browser loads by itself; ``a`` is not among them."""
NOT_LOADED = {"alternate", "canonical", "next", "prev"}
"""Relations of a ``link`` that only say something."""
PICTURES = {
    "docs/heatmap.png": ("python -m benchmarks.demo", "runs/demo/heatmap.png"),
    "docs/page.png": ("python -m benchmarks.page", "docs/page.png"),
    "docs/tiny_pooling.png": (
        "ppl ablate -c recipes/ablations/tiny_pooling.yaml",
        "runs/ablations/tiny_pooling/pareto.png",
    ),
}
"""Picture -> the committed command that makes it, and where; it is copied from there."""


class Loaded(HTMLParser):
    """Collects what a page makes a browser load, and what is on it."""

    def __init__(self, text):
        super().__init__()
        self.urls, self.ids, self.kinds, self.styles = [], set(), set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids.add(attributes.get("id"))
        self.kinds.update((attributes.get("class") or "").split())
        self.styles.append(attributes.get("style") or "")
        if tag in LOADING and attributes.get("rel") not in NOT_LOADED:
            self.urls += [attributes[name] for name in ("src", "href", "data", "poster") if attributes.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site):
    pages = {path: Loaded(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > len(PAGES)
    loaded = {url for page in pages.values() for url in page.urls}
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    styles += [style for page in pages.values() for style in page.styles]
    loaded |= {url.strip("'\" ") for text in styles for url in re.findall(r"(?:url\(|@import\s*)([^);]+)", text)}
    assert loaded, "nothing at all? the parser is wrong"
    assert [url for url in loaded if urlparse(url).netloc] == []
    assert not any("mermaid" in page.kinds for page in pages.values()), "the theme would fetch its program"


def test_every_page_is_in_the_navigation(site):
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert [page for page in PAGES[2:] if page.removeprefix("docs/") not in navigation] == []
    assert (site / "index.html").is_file()


def test_every_public_module_is_in_the_reference(site):
    described = {name for path in (site / "reference/api").rglob("*.html") for name in Loaded(path.read_text()).ids}
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "ppl").rglob("*.py")}
    assert {name for name in modules if not name.rpartition(".")[2].startswith("_")} - described == set()


def test_every_subcommand_is_in_the_reference(site):
    text = (site / "reference/command_line/index.html").read_text(encoding="utf-8")
    (subcommands,) = [action.choices for action in build_parser()._actions if isinstance(action.choices, dict)]
    assert [name for name in {*subcommands} - {*LIGHTNING_SUBCOMMANDS} if f">ppl {name}<" not in text] == []
    assert "--model.help" in text


def test_every_class_that_a_recipe_names_is_in_the_reference(site):
    text = (site / "reference/recipe_arguments/index.html").read_text(encoding="utf-8")
    named = {name for path in found(".") for name in classes(yaml.safe_load((ROOT / path).read_text()))}
    ours = {name for name in named if name.startswith("ppl.")}
    assert ours
    assert [name for name in ours if name not in text] == []


def classes(content):
    """Every ``class_path`` of a recipe."""
    if isinstance(content, dict):
        yield from [content["class_path"]] if "class_path" in content else []
        content = list(content.values())
    for value in content if isinstance(content, list) else []:
        yield from classes(value)


def test_every_picture_has_a_command():
    pictures = {
        path.relative_to(ROOT).as_posix()
        for kind in ("png", "gif", "svg", "jpg")
        for path in (ROOT / "docs").rglob(f"*.{kind}")
    }
    assert pictures == set(PICTURES)
    for command, written in PICTURES.values():
        program, *words = command.split()
        named = [ROOT / word for word in words if word.endswith(".yaml")]
        named += [ROOT / f"{words[1].replace('.', '/')}.py"] if program == "python" else []
        (made_by,) = named
        assert made_by.is_file()
        assert written.split("/")[1 if program == "python" else 2] in made_by.read_text()
