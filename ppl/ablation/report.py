"""What an ablation's folder says to people: tables, pictures, and one page that needs nothing beside itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from matplotlib.figure import Figure

from ppl.ablation.plots import category_plot, heat_map_sheet, pareto_plot
from ppl.ablation.results import CellResult, Provenance, Row
from ppl.ablation.statistics import RowStatistics, summarise
from ppl.ablation.tables import (
    ACCURACY_NOTE,
    COST_NOTE,
    Table,
    accuracy_table,
    cost_table,
    failed_cells,
    markdown,
    write_csv,
)

_PAGE = Path(__file__).with_name("report.html")
_LOG_LINES = 40
_LOG_BYTES = 16_384


def write_report(
    folder: str | Path, rows: Sequence[Row], results: Sequence[CellResult], provenance: Provenance
) -> None:
    """Write results.csv, table.md, pareto.png, categories.png, heatmaps.png if there are any, and report.html.

    May be called after every cell: cells may be missing or failed.

    Args:
        folder: The ablation's folder, where the cells' folders lie.
        rows: The grid's rows in order.
        results: The cells so far.
        provenance: What the numbers were made with.

    Raises:
        ValueError: The results do not fit together, see `summarise`.
    """
    folder = Path(folder)
    statistics = summarise(rows, results, folder)
    write_csv(folder / "results.csv", statistics)
    (folder / "table.md").write_text(markdown(statistics), encoding="utf-8")
    pareto = _write_figure(folder / "pareto.png", pareto_plot(statistics))
    categories = _write_figure(folder / "categories.png", category_plot(statistics))
    heat_maps = _write_heat_maps(folder, statistics, provenance.seeds[0])
    page = Template(_PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(provenance.title),
        description=paragraphs(provenance.description),
        state=escape(progress(statistics, provenance)),
        accuracy=html_table(accuracy_table(statistics), statistics),
        accuracy_note=escape(ACCURACY_NOTE),
        pareto=data_uri(pareto),
        categories=data_uri(categories),
        cost=html_table(cost_table(statistics), statistics),
        cost_note=escape(COST_NOTE),
        heat_maps=heat_maps,
        failures=failures(statistics, folder),
        provenance=provenance_list(provenance),
        recipes="\n".join(recipe(row, folder) for row in statistics),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def progress(statistics: Sequence[RowStatistics], provenance: Provenance) -> str:
    """How much of the grid there is, in words."""
    planned = len(statistics) * len(provenance.seeds)
    finished = sum(len(row.finished) for row in statistics)
    failed = sum(len(row.failed) for row in statistics)
    words = [f"{finished} of {planned} cells finished"]
    words += [f"{failed} failed"] if failed else []
    words += [f"{planned - finished - failed} to come"] if planned > finished + failed else []
    return ", ".join(words) + "."


def html_table(table: Table, statistics: Sequence[RowStatistics]) -> str:
    """A table that scrolls sideways on its own, each row's name below its title."""
    published = [name.startswith("published") for name in table.header]

    def cell(tag: str, text: str, column: int, below: str = "") -> str:
        look = ' class="published"' if published[column] else ""
        return f"<{tag}{look}>{escape(text)}{below}</{tag}>"

    head = "".join(cell("th", name, column) for column, name in enumerate(table.header))
    body = []
    for row, line in zip(statistics, table.lines, strict=True):
        below = f"<small>{escape(row.row.name)}</small>" if row.row.name != line[0] else ""
        cells = "".join(cell("td", text, column) for column, text in enumerate(line[1:], 1))
        look = ' class="control"' if row.row.control else ""
        body.append(f"<tr{look}>{cell('th', line[0], 0, below)}{cells}</tr>")
    lines = "\n".join(body)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>'


def failures(statistics: Sequence[RowStatistics], folder: Path) -> str:
    """Each failed cell with its error and the end of its log; nothing if none failed."""
    failed = failed_cells(statistics)
    if not failed:
        return ""
    parts = ["<h2>Failed cells</h2>"]
    for cell, line in failed:
        log = _log_end(folder / cell.folder / "log.txt")
        parts.append(
            f'<details class="failed" open><summary>{escape(cell.row)}, seed {cell.seed}: {escape(line)}</summary>\n'
            f'<pre>{escape(cell.error.strip())}</pre>\n<p class="note">The end of its log:</p>\n'
            f"<pre>{escape(log)}</pre></details>"
        )
    return "\n".join(parts)


def provenance_list(provenance: Provenance) -> str:
    """Command, commit, versions and seeds."""
    versions = ", ".join(f"{package} {version}" for package, version in provenance.versions.items())
    entries = {
        "Command": f"<code>{escape(provenance.command)}</code>",
        "Commit": f"<code>{escape(provenance.commit)}</code>",
        "Seeds": escape(", ".join(map(str, provenance.seeds))),
        "Versions": escape(versions or "not recorded"),
    }
    return "<dl>\n" + "\n".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in entries.items()) + "\n</dl>"


def recipe(row: RowStatistics, folder: Path) -> str:
    """Commands and exact recipes of the row's first finished cell, or failed one, folded away."""
    name = escape(row.row.name)
    title = f" – {escape(row.row.title)}" if row.row.title not in ("", row.row.name) else ""
    cells = [*row.finished, *row.failed]
    if not cells:
        return f"<details><summary>{name}{title}</summary>\n<p>No seed has been run.</p></details>"
    cell = cells[0]
    files = [folder / cell.folder / file for file in ("recipe.yaml", "test_recipe.yaml")]
    texts = [escape(file.read_text(encoding="utf-8") if file.is_file() else f"no {file.name}") for file in files]
    state = "failed" if cell.error else f"{cell.steps} optimiser steps"
    return (
        f"<details><summary>{name}{title}</summary>\n<p>Seed {cell.seed}, <code>{escape(cell.folder)}</code>, {state}."
        f"</p>\n<pre>{escape(cell.command or 'command not recorded')}</pre>\n<p>Training</p>\n<pre>{texts[0]}</pre>\n"
        f"<p>Testing</p>\n<pre>{texts[1]}</pre></details>"
    )


def paragraphs(text: str) -> str:
    """Plain text as paragraphs: an empty line starts one."""
    return "\n".join(f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip())


def data_uri(picture: bytes, kind: str = "png") -> str:
    """A picture as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _write_figure(path: Path, figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def _write_heat_maps(folder: Path, statistics: Sequence[RowStatistics], seed: int) -> str:
    """Write heatmaps.png if there is any heat map; returns what the page says about it."""
    sheet, without = heat_map_sheet(statistics, folder, seed)
    path = folder / "heatmaps.png"
    path.unlink(missing_ok=True)  # of an earlier call, whose cells may have gone
    picture = "<p>No cell has left a heat map.</p>"
    if sheet is not None:
        sheet.save(path, compress_level=3)  # half the time of 6, nearly as small
        small = io.BytesIO()
        sheet.save(small, format="JPEG", quality=85)  # in the page: a quarter of the PNG
        source = data_uri(small.getvalue(), "jpeg")
        picture = (
            f"<p>The same question under each pooler that scores the prompt, seed {seed}; in each strip the most "
            f'relevant patch is the brightest.</p>\n<div class="scroll"><img src="{source}" '
            'alt="Frames of a video with the relevance of their patches to the question, a strip a row."></div>'
        )
    names = (
        f'\n<p class="note">Finished without a heat map, seed {seed}: {escape(", ".join(without))}.</p>'
        if without
        else ""
    )
    return picture + names


def _log_end(path: Path) -> str:
    """The last lines of a log."""
    if not path.is_file():
        return f"{path.name} does not exist"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_LOG_LINES:])
