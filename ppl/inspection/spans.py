"""How long a video is."""

from __future__ import annotations

from typing import NamedTuple

from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.frame_folders import frame_files, is_frames
from ppl.datamodules.frame_sampling import Linspace
from ppl.datamodules.media_reading import read_medium
from ppl.datamodules.records import MediumRef


class Span(NamedTuple):
    """Of one video, or of the clip that is cut out of it."""

    frames: int
    """That it has, at the average rate."""
    seconds: float | None
    """None: frames without a rate."""


def span_of(ref: MediumRef, decoder: VideoDecoder) -> Span:
    """Measure a video; its first frame is decoded.

    Args:
        ref: The video, perhaps with the times of a clip.
        decoder: Reads video files.

    Raises:
        ValueError: It cannot be read.
    """
    medium = read_medium(ref, 1, Linspace(), decoder)
    if is_frames(ref) and ref.fps is None:
        return Span(len(frame_files(ref)), None)
    first, last = ref.start or 0.0, min(ref.end or medium.duration, medium.duration)
    shown = (index / medium.fps for index in range(max(1, round(medium.duration * medium.fps))))
    return Span(sum(first <= time < last for time in shown), last - first)
