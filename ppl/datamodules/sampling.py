"""Choice of the times at which a video is looked at.

Axes: none; everything here is seconds.
"""

from __future__ import annotations


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
