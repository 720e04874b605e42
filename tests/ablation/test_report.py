"""The report is whole, stands alone, and lets nobody's text become HTML."""

import base64
import csv
import io
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from ppl.ablation.report import write_report
from ppl.ablation.results import Row
from tests.ablation.fake_ablation import PROVENANCE, ROWS, fail_cell, write_ablation, write_cell
from tests.ablation.test_bootstrap import cell

VOID = {"br", "hr", "img", "input", "link", "meta"}


class Page(HTMLParser):
    """Reads a page; fails where tags do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words, self.addresses = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], "unclosed"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole grid's report."""
    folder = tmp_path_factory.mktemp("fake")
    write_report(folder, ROWS, write_ablation(folder, videos=6), PROVENANCE)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_it_says_how_it_was_run(page):
    for text in (
        PROVENANCE.title,
        PROVENANCE.command,
        PROVENANCE.commit,
        "0, 1, 2",
        "torch 0.0-fake",
        "Nothing was trained.",
    ):
        assert text in page.text
    assert f"{3 * len(ROWS)} of {3 * len(ROWS)} cells finished." in page.text
    assert "Failed cells" not in page.text


def test_every_row_is_there_with_its_recipe(page):
    for row in ROWS:
        assert page.words.count(row.title) == 2, "in two tables"
        assert f"pooler: {row.name}  # FAKE" in page.text
        assert f"ppl fit --model.pooler={row.name} --seed_everything=0" in page.text
    assert page.tags.count("details") == len(ROWS)
    assert "published, not re-run" in page.text
    assert ROWS[0].published in page.text


def test_it_stands_alone(page, folder):
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert len(page.addresses) == 3
    for address, kind in zip(page.addresses, ("png", "png", "jpeg"), strict=True):
        head, _, content = address.partition(",")
        assert head == f"data:image/{kind};base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            picture.load()
    style = (folder / "report.html").read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_other_files_open(folder):
    for name in ("pareto.png", "categories.png", "heatmaps.png"):
        with Image.open(folder / name) as picture:
            picture.load()
            assert picture.width > 500
    with (folder / "results.csv").open(newline="") as file:
        assert [line["row"] for line in csv.DictReader(file)] == [row.name for row in ROWS]
    assert (folder / "table.md").read_text(encoding="utf-8").startswith("| row | published, not re-run |")


def test_nobodys_text_becomes_html(tmp_path):
    evil = '<script>alert("1")</script>&amp;$title ${x}'
    rows = [Row("a", evil, evil), Row("b", evil), Row("c")]
    results = [
        write_cell(tmp_path, "a", 0, cell([1, 0], categories=[evil, "fine"])),
        fail_cell(tmp_path, "b", 0, f"ValueError: {evil}", evil),
    ]
    results[0] = replace(results[0], command=evil)
    (tmp_path / "a" / "seed_0" / "recipe.yaml").write_text(evil)
    provenance = replace(PROVENANCE, title=evil, description=evil, command=evil, commit=evil, versions={evil: evil})
    write_report(tmp_path, rows, results, provenance)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert sum(word.count(evil) for word in page.words) >= 15, "shown as written"


def test_an_unfinished_grid_says_so(tmp_path):
    log = "".join(f"line {i}\n" for i in range(5000)) + "the last line"
    results = [
        write_cell(tmp_path, "weighted", 1, cell([1, 0]), tokens=16),
        fail_cell(tmp_path, "max", 0, "Traceback (most recent call last):\n  in pool\nRuntimeError: no memory", log),
        fail_cell(tmp_path, "max", 1, "killed", ""),
    ]
    (tmp_path / "max" / "seed_1" / "log.txt").unlink()
    write_report(tmp_path, ROWS, results, PROVENANCE)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert f"1 of {3 * len(ROWS)} cells finished, 2 failed, {3 * len(ROWS) - 3} to come." in page.text
    assert "max, seed 0: RuntimeError: no memory" in page.text
    assert "in pool" in page.text
    assert "line 4999\nthe last line" in page.text
    assert "line 4900\n" not in page.text
    assert "log.txt does not exist" in page.text
    assert page.text.count("No seed has been run.") == len(ROWS) - 2
    assert "No cell has left a heat map." in page.text
    assert not (tmp_path / "heatmaps.png").exists()


def test_before_the_first_cell(tmp_path):
    write_report(tmp_path, ROWS, [], PROVENANCE)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert f"0 of {3 * len(ROWS)} cells finished, {3 * len(ROWS)} to come." in page.text
    assert all(row.title in page.text for row in ROWS)


def test_heat_maps_of_cells_that_are_gone_go(tmp_path):
    rows = ROWS[:2]
    write_report(tmp_path, rows, write_ablation(tmp_path, rows, videos=3), PROVENANCE)
    assert (tmp_path / "heatmaps.png").exists()
    write_report(tmp_path, rows, [], PROVENANCE)
    assert not (tmp_path / "heatmaps.png").exists()
