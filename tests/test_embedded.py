"""The embedded world's chain in short: it aligns, and prompt-guided pooling beats averaging on unseen videos."""

import pytest

from benchmarks.chain import POINTING_GATE, Cell, align, tune

STEPS = 150
LEAST_GAIN = 0.10
"""`make demo` and `benchmarks.embedded` measure about twice this, over three times the steps and several seeds."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_weighted_pooling_learns_what_average_pooling_cannot(tmp_path):
    alignment = align(tmp_path, seed=0, threads=1)
    assert alignment.failed == []
    assert all(alignment.pointing[kind] >= least for kind, least in POINTING_GATE.items())
    means = {}
    for name in ("weighted", "average"):
        cell = Cell(name, f"recipes/parts/poolers/{name}.yaml", STEPS)
        means[name] = tune(cell, alignment, tmp_path, seed=0).accuracies()["mean"]
    assert means["weighted"] >= means["average"] + LEAST_GAIN, means
