"""Choice of the times at which a video is looked at.

Axes: none; everything here is seconds.
"""

from __future__ import annotations

import math


def uniform_midpoints(start: float, end: float, num_frames: int) -> list[float]:
    """Return the middle of each of ``num_frames`` equal segments of [start, end).

    Args:
        start: First second of the clip.
        end: Second at which the clip stops; never sampled itself.
        num_frames: How many times to choose.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames}, expected at least 1; ask for one or more frames")
    if not end > start:
        raise ValueError(f"clip [{start}, {end}) s is empty, expected end > start; move its bounds apart")
    step = (end - start) / num_frames
    return [start + (index + 0.5) * step for index in range(num_frames)]


def midpoints_at_rate(start: float, end: float, fps: float) -> list[float]:
    """Return the middles of the intervals of 1/fps seconds that follow one another from ``start``.

    A last interval that is cut by ``end`` counts if its middle lies before it. A clip of less than half an interval
    gives its own middle, so there is at least one time.

    Args:
        start: First second of the clip.
        end: Second at which the clip stops; never sampled itself.
        fps: Times a second.
    """
    if not 0 < fps < math.inf:
        raise ValueError(f"fps={fps}, expected more than 0; ask for a number of frames a second")
    if not end > start:
        raise ValueError(f"clip [{start}, {end}) s is empty, expected end > start; move its bounds apart")
    times = [start + (index + 0.5) / fps for index in range(math.ceil((end - start) * fps))]
    return [time for time in times if time < end] or [(start + end) / 2]
