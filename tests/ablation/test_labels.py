"""Labels find room."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ppl.ablation.labels import Label, clusters, spread, write_labels

CROWD = [Label(5 + 0.01 * i, 50 + 0.5 * i, f"the {i}th label") for i in range(10)]
ALIKE = [Label(5.0, 50.0, f"the {i}th label") for i in range(6)]
AT_THE_TOP = [Label(5 + 0.3 * i, 99.0, f"the {i}th label") for i in range(6)]
AT_THE_FOOT = [Label(5 + 0.3 * i, 1.0, f"the {i}th label") for i in range(6)]
FAR_APART = [Label(2.0, 50.0, "left"), Label(8.0, 50.0, "right")]


def plot():
    axes = Figure(figsize=(8, 5), dpi=100).add_subplot()
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 100)
    return axes


def boxes(axes, texts):
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    axes.figure.draw(renderer)
    return [text.get_window_extent(renderer) for text in texts]


@pytest.mark.parametrize(
    "labels",
    [CROWD, ALIKE, AT_THE_TOP, AT_THE_FOOT, FAR_APART, []],
    ids=["crowd", "alike", "top", "foot", "apart", "none"],
)
def test_labels_lie_apart_inside_and_on_no_point(labels):
    axes = plot()
    texts = write_labels(axes, labels)
    found = boxes(axes, texts)
    assert [text.get_text() for text in texts] == [label.text for label in labels]
    assert not [pair for pair in combinations(found, 2) if Bbox.intersection(*pair)]
    assert not [box for box in found for x, y, _ in labels if box.contains(*axes.transData.transform((x, y)))]
    inside = axes.bbox
    assert all(inside.x0 <= b.x0 and b.x1 <= inside.x1 and inside.y0 <= b.y0 and b.y1 <= inside.y1 for b in found)


@pytest.mark.parametrize("labels", [FAR_APART, FAR_APART[:1]])
def test_a_lonely_label_is_beside_its_point_without_a_line(labels):
    axes = plot()
    texts = write_labels(axes, labels)
    for label, box in zip(labels, boxes(axes, texts), strict=True):
        x, y = axes.transData.transform(label[:2])
        assert 0 < box.x0 - x < 15
        assert box.y0 < y < box.y1
    assert len(axes.texts) == len(labels)


def test_labels_of_a_crowd_are_in_the_order_of_its_points_and_have_lines():
    axes = plot()
    found = boxes(axes, write_labels(axes, CROWD))
    for column in (found[:5], found[5:]):
        assert (np.diff([box.y0 for box in column]) > 0).all()
    assert max(box.x1 for box in found[:5]) < min(box.x0 for box in found[5:])
    assert sum(text.get_text() == "" for text in axes.texts) == len(CROWD)


def test_labels_are_no_mathematics():
    axes = plot()
    [text] = write_labels(axes, [Label(5.0, 50.0, "costs $5 and $\\frac{")])
    boxes(axes, [text])
    assert not text.get_parse_math()


def test_clusters_by_hand():
    found = clusters(np.array([9.0, 1.0, 2.0, 5.0, 10.0]), 3.0)
    assert [cluster.tolist() for cluster in found] == [[1, 2], [3], [0, 4]]
    assert clusters(np.zeros(0), 3.0) == []


@pytest.mark.parametrize(
    ("ys", "expected"),
    [
        ([0.0, 50.0], [0.0, 50.0]),
        ([50.0, 50.0], [45.0, 55.0]),
        ([52.0, 50.0, 90.0], [56.0, 46.0, 90.0]),
        ([99.0, 98.0], [100.0, 90.0]),
        ([1.0], [1.0]),
        ([], []),
    ],
    ids=["apart already", "both move", "order kept", "below the edge", "one", "none"],
)
def test_spreading_by_hand(ys, expected):
    assert spread(np.array(ys, dtype=float), 10.0, 0.0, 100.0).tolist() == pytest.approx(expected)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(200, 300), min_size=2, max_size=8), st.integers(0, 2**31))
def test_no_smaller_move_keeps_them_apart(ys, seed):
    """The moves are the least squares: a convex problem, so no feasible neighbour may be better. Tolerance 1e-6."""
    ys = np.array(ys)
    moved = spread(ys, 10.0, 0.0, 500.0)
    order = np.argsort(ys, kind="stable")
    assert (np.diff(moved[order]) >= 10 - 1e-9).all()
    random = np.random.default_rng(seed)
    for scale in (0.01, 0.1, 1.0):
        near = np.sort(moved[order] + scale * random.standard_normal((200, len(ys))))
        feasible = near[(np.diff(near) >= 10).all(axis=1)]
        assert (((feasible - ys[order]) ** 2).sum(axis=1) >= ((moved - ys) ** 2).sum() - 1e-6).all()


def test_too_many_are_squeezed():
    assert spread(np.full(5, 50.0), 100.0, 0.0, 100.0).tolist() == pytest.approx([0, 25, 50, 75, 100])
