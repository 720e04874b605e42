from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl.datamodules.sampling import uniform_midpoints


def test_midpoints_of_a_clip() -> None:
    assert uniform_midpoints(2.0, 6.0, 4) == [2.5, 3.5, 4.5, 5.5]


@given(st.floats(0, 1e5), st.floats(0.01, 1e5), st.integers(1, 200))
def test_midpoints_are_sorted_inside_and_exactly_as_many(start: float, length: float, num_frames: int) -> None:
    times = uniform_midpoints(start, start + length, num_frames)
    assert len(times) == num_frames
    assert times == sorted(times)
    assert start < times[0]
    assert times[-1] < start + length


@given(st.floats(0.1, 1e4), st.integers(1, 100))
def test_midpoints_are_symmetric(length: float, num_frames: int) -> None:
    times = uniform_midpoints(0.0, length, num_frames)
    assert [length - time for time in reversed(times)] == pytest.approx(times)


def test_errors_say_what_to_change() -> None:
    with pytest.raises(ValueError, match="num_frames=0, expected at least 1"):
        uniform_midpoints(0.0, 1.0, 0)
    with pytest.raises(ValueError, match=r"clip \[2.0, 2.0\) s is empty.*move its bounds apart"):
        uniform_midpoints(2.0, 2.0, 3)
    with pytest.raises(ValueError, match="is empty"):
        uniform_midpoints(0.0, float("nan"), 3)
