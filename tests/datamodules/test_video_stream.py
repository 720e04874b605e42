"""Frame times of containers that store few of them; reading by them is tested in ``test_video_io.py``."""

from __future__ import annotations

import pytest

from ppl.datamodules.video_stream import _disorder, _repaired


@pytest.mark.parametrize(
    ("times", "repaired"),
    [
        pytest.param([], (), id="no frames"),
        pytest.param([None, None, None], (0, 10, 20), id="no times: the stated rate"),
        pytest.param([0, 7, 30, 34], (0, 7, 30, 34), id="times in order stay"),
        pytest.param([5, 25, 45, None, None], (5, 25, 45, 65, 85), id="the end goes on at the average rate"),
        pytest.param([None, None, 100, 120], (60, 80, 100, 120), id="so does the start"),
        pytest.param([0, None, 100, 200], (0, 50, 100, 200), id="gaps at no constant rate: spread evenly"),
        pytest.param([0, None, None, None, 20, None], (0, 10, 20, 30, 40, 50), id="jitter at a constant rate"),
        pytest.param([100, 120, 140, 0, 20], (100, 120, 140, 160, 180), id="a clock that starts anew goes on"),
        pytest.param([0, 100, 50, 300], (0, 100, 200, 300), id="a step backwards is dropped"),
    ],
)
def test_repaired(times: list[int | None], repaired: tuple[int, ...]) -> None:
    assert _repaired(times, step=10.0) == repaired


def test_disorder() -> None:
    assert _disorder([1, None, 1, 4]) == 0
    assert _disorder([1, 3, None, 2, 5, 4]) == 2
    assert _disorder([None, None]) > 1000
