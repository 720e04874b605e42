"""Write a word beside each point of a plot, none over another.

Points that lie so close that their words might meet share two columns of words, left and right of them all, ordered by
height; a thin line leads from each word to its point.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation

FONT_SIZE = 9
_GAP = 8
"""Points from the centre of a marker to a word beside it."""
_COLUMN_GAP = 16
"""Points from the centre of the outermost marker to a column of words."""
_LEADING = 1.05
"""Height of a line of words, in heights of a word."""


class Label(NamedTuple):
    """A word for a point, in the plot's own units."""

    x: float
    y: float
    text: str


def write_labels(axes: Axes, labels: Sequence[Label]) -> list[Annotation]:
    """Write each label near its point; the figure's layout and limits must be final.

    Returns:
        What was written, in the order of ``labels``.
    """
    renderer = FigureCanvasAgg(axes.figure.figure).get_renderer()
    unit = axes.figure.figure.dpi / 72
    inside = axes.get_window_extent(renderer)
    texts = [
        axes.annotate(
            label.text, label[:2], (0, 0), textcoords="offset points", fontsize=FONT_SIZE, va="center", parse_math=False
        )
        for label in labels
    ]
    sizes = [text.get_window_extent(renderer) for text in texts]
    points = axes.transData.transform([label[:2] for label in labels]) if labels else np.zeros((0, 2))
    room = 2 * max((size.width for size in sizes), default=0.0) + 2 * _COLUMN_GAP * unit
    for cluster in clusters(points[:, 0], room):
        edge = 0.0 if len(cluster) == 1 else (_COLUMN_GAP - _GAP) * unit
        left = cluster[: len(cluster) // 2]
        for column, side in ((left, -1), (cluster[len(left) :], 1)):
            if len(column):
                outermost = (side * points[cluster, 0]).max() * side
                height = _LEADING * max(sizes[i].height for i in column)
                ys = spread(points[column, 1], height, inside.y0 + height / 2, inside.y1 - height / 2)
                for i, y in zip(column.tolist(), ys.tolist(), strict=True):
                    offset = np.array([outermost + side * (edge + _GAP * unit), y]) - points[i]
                    _lead(axes, texts[i], labels[i], side, (offset / unit).tolist())
    return texts


def clusters(xs: Float[np.ndarray, " n"], room: float) -> list[np.ndarray]:
    """Indices of points by x, split wherever a gap of at least ``room`` lies between neighbours."""
    order = np.argsort(xs, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(xs[order]) >= room) + 1) if len(order) else []


def spread(ys: Float[np.ndarray, " n"], height: float, low: float, high: float) -> Float[np.ndarray, " n"]:
    """Move heights as little as possible (least squares) until all lie ``height`` apart, their order kept.

    Then shift what lies below ``low`` or above ``high`` back; too many for the room between are squeezed together.
    """
    order = np.argsort(ys, kind="stable")
    height = min(height, (high - low) / max(1, len(ys) - 1))
    steps = height * np.arange(len(ys))
    blocks: list[list[float]] = []  # isotonic regression of ys - steps: means of neighbours that are out of order
    for value in (ys[order] - steps).tolist():
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    apart = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks]) if blocks else ys
    moved = np.empty_like(ys)
    moved[order] = np.clip(apart, low, high - height * max(0, len(ys) - 1)) + steps
    return moved


def _lead(axes: Axes, text: Annotation, label: Label, side: int, offset: list[float]) -> None:
    """Put the text there, in points from its point, and draw a line if that is not beside it."""
    text.set_horizontalalignment("left" if side > 0 else "right")
    text.set_position((offset[0], offset[1]))
    if hypot(offset[0], offset[1]) > _GAP + 2:
        line = {"arrowstyle": "-", "color": "0.55", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3}
        end = (offset[0] - side * 2, offset[1])
        axes.annotate("", label[:2], end, textcoords="offset points", arrowprops=line, zorder=1)
