"""The pictures of an ablation: accuracy over tokens, accuracy by category, and where the cells looked.

Drawn without pyplot: nothing is shown, no global state.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image, ImageDraw, ImageFont

from ppl.ablation.labels import FONT_SIZE, Label, write_labels
from ppl.ablation.statistics import RowStatistics
from ppl.ablation.tables import category_names

# Okabe and Ito's colours, told apart by colour-blind readers too; controls also have another marker.
_ROW, _REFERENCE, _CONTROL = "#0072B2", "#D55E00", "#555555"
_DODGE, _SPREAD = 0.14, 0.6
"""Octaves between points of equal token counts, and between the outermost of them at most."""
_PANELS = 4
"""Category panels side by side."""
_FEWEST_OCTAVES = 2.0
_NARROWEST = 20
"""Points of accuracy in a category panel at least."""
_SHEET_WIDTH = 1536
_TITLE_HEIGHT = 30
_DPI = 120


def pareto_plot(statistics: Sequence[RowStatistics]) -> Figure:
    """Mean accuracy in % over visual tokens, with its interval; the best for their tokens are joined.

    Points of equal token counts are set a little apart. Rows without a finished seed or without visual tokens have no
    place on the axis and are named below it.
    """
    figure = Figure(figsize=(9, 5.5), dpi=_DPI)
    figure.subplots_adjust(left=0.08, right=0.98, top=0.97, bottom=0.17)
    axes = figure.add_subplot()
    shown = [row for row in statistics if row.accuracy and row.interval and row.tokens]
    places = _places(shown)
    front = pareto_front([(float(row.tokens or 0), row.accuracy.mean) for row in shown if row.accuracy])
    axes.plot(*zip(*(places[i] for i in front), strict=True) if front else ([], []), color="0.8", lw=4, zorder=1)
    for row, place in zip(shown, places, strict=True):
        _draw_point(axes, row, place, _style(row, statistics))
    _token_axis(axes, [place[0] for place in places], [row.row.name for row in shown])
    _shade_equals(axes, shown, places)
    axes.set_ylabel("mean accuracy, %, with 95 % interval")
    write_labels(axes, [Label(*place, row.row.name) for row, place in zip(shown, places, strict=True)])
    _say_what_is_missing(figure, [row.row.name for row in statistics if row not in shown])
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (cost, gain) points that no other reaches at the same or less cost, by cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def category_plot(statistics: Sequence[RowStatistics]) -> Figure:
    """One panel a category, one line a row: mean over seeds as a big dot, each seed as a small one, in %.

    The first panel is the mean over categories, with its interval.
    """
    names = ["mean", *category_names(statistics)]
    columns = min(_PANELS, len(names))
    lines = -(-len(names) // columns)
    height = lines * (0.75 + 0.27 * max(1, len(statistics)))
    figure = Figure(figsize=(10, height), dpi=_DPI, layout="constrained")
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for panel, name in zip(panels, names, strict=False):
        panel.set_title(name, fontsize=10, parse_math=False)
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
        panel.tick_params(axis="y", length=0)
        for y, row in enumerate(statistics):
            _draw_category(panel, row, name, y, _style(row, statistics))
        _widen(panel)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    panels[0].set_yticks(range(len(statistics)), [row.row.name for row in statistics], parse_math=False)
    panels[0].set_ylim(len(statistics) - 0.5, -0.5)
    figure.supxlabel("accuracy, %; each panel has its own scale", fontsize=10)
    return figure


def heat_map_sheet(
    statistics: Sequence[RowStatistics], folder: str | Path, seed: int
) -> tuple[Image.Image | None, list[str]]:
    """The heat maps that the cells of one seed left, one below the other.

    Returns:
        The picture, None if there is no heat map; the names of rows whose finished cell left none.
    """
    cells = [cell for row in statistics for cell in row.finished if cell.seed == seed]
    drawn = [cell for cell in cells if (Path(folder) / cell.folder / "heatmap.png").is_file()]
    without = [cell.row for cell in cells if cell not in drawn]
    if not drawn:
        return None, without
    strips = [_strip(Path(folder) / cell.folder / "heatmap.png") for cell in drawn]
    width = max(strip.width for strip in strips)
    sheet = Image.new("RGB", (width, sum(_TITLE_HEIGHT + strip.height for strip in strips)), "white")
    pen, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(20), 0
    for cell, strip in zip(drawn, strips, strict=True):
        pen.text((4, top + 4), f"{cell.row}: {cell.tokens} tokens", fill="black", font=font)
        sheet.paste(strip, (0, top + _TITLE_HEIGHT))
        top += _TITLE_HEIGHT + strip.height
    return sheet, without


def _strip(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        strip = picture.convert("RGB")
    scale = min(1.0, _SHEET_WIDTH / strip.width)
    return strip.resize((round(scale * strip.width), round(scale * strip.height)), Image.Resampling.LANCZOS)


def _style(row: RowStatistics, statistics: Sequence[RowStatistics]) -> tuple[str, str]:
    """Colour and marker."""
    if row.row.control:
        return _CONTROL, "s"
    reference = next(other.row for other in statistics if not other.row.control)
    return (_REFERENCE, "D") if row.row == reference else (_ROW, "o")


def _places(shown: Sequence[RowStatistics]) -> list[tuple[float, float]]:
    """Tokens and accuracy in %, equal token counts set apart around their true place."""
    places = []
    for row in shown:
        equals = [other.row.name for other in shown if other.tokens == row.tokens]
        step = min(_DODGE, _SPREAD / max(1, len(equals) - 1))
        octaves = step * (equals.index(row.row.name) - (len(equals) - 1) / 2)
        assert row.tokens
        assert row.accuracy
        places.append((row.tokens * 2**octaves, 100 * row.accuracy.mean))
    return places


def _draw_point(axes: Axes, row: RowStatistics, place: tuple[float, float], style: tuple[str, str]) -> None:
    assert row.interval
    x, (low, high) = place[0], row.interval
    colour, marker = style
    axes.vlines(x, 100 * low, 100 * high, color=colour, lw=1.3)
    fill = "white" if row.row.control else colour
    axes.plot(*place, marker, color=colour, markerfacecolor=fill, markeredgewidth=1.5, markersize=7)


def _shade_equals(axes: Axes, shown: Sequence[RowStatistics], places: Sequence[tuple[float, float]]) -> None:
    """Lay a band behind points that were set apart, so that they are seen to have one token count."""
    for tokens in {row.tokens for row in shown}:
        at = [place[0] for row, place in zip(shown, places, strict=True) if row.tokens == tokens]
        if len(at) > 1:
            axes.axvspan(min(at) / 2 ** (_DODGE / 2), max(at) * 2 ** (_DODGE / 2), color="0.95", lw=0, zorder=0)


def _token_axis(axes: Axes, tokens: Sequence[float], names: Sequence[str]) -> None:
    """Scale the axis by octaves, with room for the longest name at either end."""
    low, high = (min(tokens), max(tokens)) if tokens else (1.0, 1.0)
    width = 72 * axes.figure.get_figure(root=True).get_figwidth() * axes.get_position().width
    name = (0.65 * FONT_SIZE * max(map(len, names), default=0) + 20) / width  # a letter is about 0.65 of its size wide
    share = min(name, 0.35)
    span = max(_FEWEST_OCTAVES, np.log2(high / low))
    octaves = (span - np.log2(high / low)) / 2 + span * share / (1 - 2 * share)
    axes.set_xscale("log", base=2)
    axes.set_xlim(low / 2**octaves, high * 2**octaves)
    axes.margins(y=0.08)
    axes.set_xlabel("visual tokens for the language model (doubling from tick to tick)")
    axes.xaxis.set_major_locator(LogLocator(base=2))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_category(panel: Axes, row: RowStatistics, name: str, y: int, style: tuple[str, str]) -> None:
    colour, marker = style
    shares = [100 * cell.accuracy[name] for cell in row.finished if cell.accuracy and name in cell.accuracy]
    if not shares:
        words = {"ha": "center", "va": "center", "fontsize": 8, "color": "0.45"}
        panel.text(0.5, y, "not finished", transform=panel.get_yaxis_transform(), **words)
        return
    if name == "mean" and row.interval:
        panel.hlines(y, 100 * row.interval.low, 100 * row.interval.high, color=colour, lw=1.3)
    fill = "white" if row.row.control else colour
    panel.plot(shares, np.full(len(shares), y), marker, color=colour, alpha=0.35, markersize=3.5, markeredgewidth=0)
    panel.plot(np.mean(shares), y, marker, color=colour, markersize=6, markerfacecolor=fill)


def _widen(panel: Axes) -> None:
    """Show at least `_NARROWEST` points of accuracy: less would make chance look like a difference."""
    panel.margins(x=0.1)
    low, high = panel.get_xlim()
    room = max(0.0, _NARROWEST - (high - low)) / 2
    panel.set_xlim(low - room, high + room)


def _say_what_is_missing(figure: Figure, missing: Sequence[str]) -> None:
    words = (
        "Square: control. Diamond: what the others are compared with. Grey line: best for their tokens. "
        "Grey band: one token count, points set apart."
    )
    if missing:
        words += f"\nNot shown, no finished seed or no visual tokens: {', '.join(missing)}"
    figure.text(0.01, 0.01, words, fontsize=8, color="0.3", va="bottom", parse_math=False)
