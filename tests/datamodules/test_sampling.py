from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl.datamodules.sampling import midpoints_at_rate, uniform_midpoints


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


def test_times_at_a_rate() -> None:
    assert midpoints_at_rate(2.0, 4.0, 2.0) == [2.25, 2.75, 3.25, 3.75]


def test_a_cut_interval_counts_from_its_middle_on() -> None:
    assert midpoints_at_rate(0.0, 1.2, 2.0) == [0.25, 0.75]
    assert midpoints_at_rate(0.0, 1.25, 2.0) == [0.25, 0.75]  # the end itself is never sampled
    assert midpoints_at_rate(0.0, 1.3, 2.0) == [0.25, 0.75, 1.25]


def test_a_clip_shorter_than_half_an_interval_gives_its_middle() -> None:
    assert midpoints_at_rate(1.0, 1.2, 2.0) == [pytest.approx(1.1)]


@given(st.floats(0, 1e4), st.floats(0.01, 100), st.floats(0.1, 30))
def test_times_at_a_rate_are_those_of_a_walk(start: float, length: float, fps: float) -> None:
    """Step by step in exact fractions; the tolerance is the rounding of doubles near 1e4."""
    step, walked = 1 / Fraction(fps), []
    time, end = Fraction(start) + step / 2, Fraction(start + length)
    while time < end:
        walked.append(float(time))
        time += step
    found = midpoints_at_rate(start, start + length, fps)
    assert abs(len(found) - max(1, len(walked))) <= (abs(float(time - step - end)) < 1e-9 or abs(time - end) < 1e-9)
    if walked:
        assert found[: len(walked)] == pytest.approx(walked[: len(found)], abs=1e-9)
    assert all(start <= time < start + length for time in found)


def test_errors_of_a_rate() -> None:
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"fps={fps}, expected more than 0; ask for a number of frames a second"):
            midpoints_at_rate(0.0, 1.0, fps)
    with pytest.raises(ValueError, match=r"clip \[2.0, 2.0\) s is empty.*move its bounds apart"):
        midpoints_at_rate(2.0, 2.0, 2.0)
