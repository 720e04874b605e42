"""Tables say what the statistics say."""

import csv

import pytest

from ppl.ablation.results import Row
from ppl.ablation.statistics import summarise
from ppl.ablation.tables import accuracy_table, cost_table, failed_cells, markdown, write_csv
from tests.ablation.fake_ablation import CATEGORIES, ROWS, fail_cell, write_ablation, write_cell
from tests.ablation.test_bootstrap import cell


@pytest.fixture
def fake(tmp_path):
    return summarise(ROWS, write_ablation(tmp_path, videos=6), tmp_path)


def as_dicts(table):
    return [dict(zip(table.header, line, strict=True)) for line in table.lines]


def test_numbers_by_hand(tmp_path):
    """1 of 2 right against 2 of 2, one seed: resamples of two videos are all, half or nothing."""
    rows = [Row("first", published="53.6 (v2)"), Row("second", "The other")]
    results = [
        write_cell(tmp_path, "first", 0, cell([1, 1]), tokens=16, stage_ms={"decode": 12.0, "pool": 0.04213},
                   peak_memory_mib=1234.4, seconds={"fit": 61.04}),
        write_cell(tmp_path, "second", 0, cell([1, 0]), tokens=16),
    ]  # fmt: skip
    statistics = summarise(rows, results, tmp_path)
    first, second = as_dicts(accuracy_table(statistics))
    assert first == {
        "row": "first",
        "published, not re-run": "53.6 (v2)",
        "visual tokens": "16",
        "accuracy ± std [95 %]": "100.0 ± – [100.0, 100.0]",
        "difference to first [95 %]": "reference",
        "all": "100.0",
        "seeds done / failed": "1 / 0",
    }
    assert second["row"] == "The other"
    assert second["published, not re-run"] == "–"
    assert second["accuracy ± std [95 %]"] == "50.0 ± – [0.0, 100.0]"
    assert second["difference to first [95 %]"] == "−50.0 [−100.0, +0.0]"
    cost = as_dicts(cost_table(statistics))[0]
    assert (cost["decode ms"], cost["pool ms"], cost["tower ms"]) == ("12", "0.0421", "–")
    assert (cost["peak memory MiB"], cost["fit s"]) == ("1234", "61")


def test_a_star_marks_intervals_without_zero(fake):
    column = "difference to weighted [95 %]"
    for row, line in zip(fake, as_dicts(accuracy_table(fake)), strict=True):
        assert line[column].endswith("*") == (row.difference is not None and row.difference.excludes_zero)
    assert sum(line[column].endswith("*") for line in as_dicts(accuracy_table(fake))) >= 2


def test_a_row_without_a_finished_seed_stays(tmp_path):
    results = [fail_cell(tmp_path, "max", 0, "Traceback:\n  in pool\nRuntimeError: out of memory\n", "")]
    statistics = summarise([Row("max"), Row("average", control=True)], results, tmp_path)
    failed, missing = accuracy_table(statistics).lines
    assert failed == ("max", "–", "–", "–", "–", "0 / 1")
    assert missing == ("average", "–", "–", "–", "–", "0 / 0")
    assert [set(line[1:]) for line in cost_table(statistics).lines] == [{"–"}, {"–"}]
    assert [(c.row, line) for c, line in failed_cells(statistics)] == [("max", "RuntimeError: out of memory")]
    assert "Failed cells:\n\n- max, seed 0: RuntimeError: out of memory\n" in markdown(statistics)


def test_markdown_keeps_its_columns(fake):
    lines = [line for line in markdown(fake).splitlines() if line.startswith("|")]
    assert len(lines) == 2 * (len(ROWS) + 2)
    assert {line.count("|") for line in lines[: len(ROWS) + 2]} == {len(accuracy_table(fake).header) + 1}
    assert {line.count("|") for line in lines[len(ROWS) + 2 :]} == {len(cost_table(fake).header) + 1}
    assert all(any(line.startswith(f"| {row.title} |") for line in lines) for row in ROWS)
    assert "Failed" not in markdown(fake)


def test_users_text_cannot_break_the_markdown(tmp_path):
    statistics = summarise([Row("a", "1|2 <script>\nx \\")], [], tmp_path)
    assert r"| 1\|2 &lt;script&gt; x \\ |" in markdown(statistics)


def test_csv_equals_the_statistics(fake, tmp_path):
    write_csv(tmp_path / "results.csv", fake)
    with (tmp_path / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == [row.name for row in ROWS]
    for row, line in zip(fake, lines, strict=True):
        assert (float(line["accuracy_mean"]), float(line["accuracy_std"])) == row.accuracy
        assert (float(line["accuracy_low"]), float(line["accuracy_high"])) == row.interval
        for name in CATEGORIES:
            read = float(line[f"category.{name}.mean"]), float(line[f"category.{name}.std"])
            assert read == row.categories[name]
        if row.difference is None:
            assert {line[k] for k in line if "difference" in k or k == "reference"} == {""}
        else:
            assert float(line["difference"]) == row.difference.mean
            assert (float(line["difference_low"]), float(line["difference_high"])) == row.difference.interval
            assert bool(int(line["difference_excludes_zero"])) is row.difference.excludes_zero
            assert line["reference"] == "weighted"
        assert float(line["pool_ms"]) == row.stage_ms("pool")
        assert (int(line["tokens"]), float(line["fit_seconds"])) == (row.tokens, row.fit_seconds)
        assert float(line["peak_memory_mib"]) == row.peak_memory_mib
        assert (line["title"], line["published_not_rerun"]) == (row.row.title, row.row.published)
        assert (line["seeds_done"], line["seeds_failed"], line["control"]) == ("3", "0", str(int(row.row.control)))


def test_csv_leaves_empty_what_there_is_not(tmp_path):
    write_csv(tmp_path / "results.csv", summarise([Row("a")], [], tmp_path))
    with (tmp_path / "results.csv").open(newline="") as file:
        [line] = csv.DictReader(file)
    assert {k: v for k, v in line.items() if v} == {"row": "a", "control": "0", "seeds_done": "0", "seeds_failed": "0"}
