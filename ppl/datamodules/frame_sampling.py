"""Rules that choose the frames of a video to look at; a recipe names one by its class.

Rules that peers state in frame numbers count them at the video's average rate, as decord does: number k is what is on
screen in the middle of its 1/fps seconds, so that where frames are evenly spaced it is frame k.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from ppl.datamodules.sampling import uniform_midpoints


class Timeline(NamedTuple):
    """What a rule may know of a clip; in seconds from the first frame of the video."""

    start: float
    """First second of the clip."""
    end: float
    """Second at which the clip stops; never sampled itself."""
    duration: float
    """Of the whole video."""
    fps: float
    """Average number of frames in a second."""
    size: int
    """Bytes of the file: what tells it from others wherever it lies."""
    key_times: Callable[[], list[float]]
    """When the key frames of the whole video are shown; finding out takes a look at every packet."""

    def indices(self) -> tuple[int, int]:
        """Give the numbers of the clip's first and last frame."""
        total = max(1, round(self.duration * self.fps))
        first = min(math.floor(self.start * self.fps + 1e-6), total - 1)
        stop = total if self.end >= self.duration else math.ceil(self.end * self.fps - 1e-6)
        return first, max(first, min(stop, total) - 1)

    def on_screen(self, indices: list[int]) -> list[float]:
        """Give times at which numbered frames are shown."""
        return [(index + 0.5) / self.fps for index in indices]


class FrameSampler(ABC):
    """Chooses the times of a clip at which frames are taken."""

    is_random = False
    """Whether another epoch gives other frames; what is read is not to be cached then."""

    @abstractmethod
    def times(self, clip: Timeline, num_frames: int) -> list[float]:
        """Choose times, in order and from within the clip.

        Args:
            clip: What is known of it.
            num_frames: How many times, or how many at most.
        """

    def set_epoch(self, epoch: int) -> None:  # noqa: B027
        """Learn the number of the epoch, in every worker process at once; only rules that draw lots listen."""

    def __repr__(self) -> str:
        """Name the rule and its arguments: what tells apart two ways to sample one file."""
        arguments = (f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({', '.join(arguments)})"


class Midpoints(FrameSampler):
    """The middles of equal segments, in time."""

    def times(self, clip: Timeline, num_frames: int) -> list[float]:
        """Choose exactly ``num_frames`` times."""
        return uniform_midpoints(clip.start, clip.end, num_frames)


class SegmentIndices(FrameSampler):
    """The middles of equal segments as PPLLaVA's evaluation, its demo and MVBench round them to frame numbers.

    (farewellthree/PPLLaVA, ``ppllava/test/video_utils.py``.) Up to two frames away from `Midpoints`.
    """

    def times(self, clip: Timeline, num_frames: int) -> list[float]:
        """Choose exactly ``num_frames`` times."""
        _check(num_frames)
        last = max(0, round(clip.duration * clip.fps) - 1)
        start = min(round(clip.start * clip.fps), last)
        end = last if clip.end >= clip.duration else min(round(clip.end * clip.fps), last)
        step = (end - start) / num_frames
        return clip.on_screen([int(start + step / 2 + round(step * place)) for place in range(num_frames)])


class Linspace(FrameSampler):
    """Evenly spaced from the first frame to the last, both included, as LLaVA-NeXT and LLaVA-Video (``force_sample``).

    (LLaVA-VL/LLaVA-NeXT, ``llava/utils.py``.)
    """

    def times(self, clip: Timeline, num_frames: int) -> list[float]:
        """Choose exactly ``num_frames`` times."""
        _check(num_frames)
        first, last = clip.indices()
        return clip.on_screen([first + place for place in _linspace(last - first + 1, num_frames)])


class SegmentStarts(FrameSampler):
    """The first frames of equal segments of a whole number of frames, but no more than one a second.

    (longvideobench/LongVideoBench, ``longvideobench_dataset.py``.)
    """

    def times(self, clip: Timeline, num_frames: int) -> list[float]:
        """Choose up to ``num_frames`` times, and one of a clip that lasts less than a second."""
        _check(num_frames)
        first, last = clip.indices()
        count = max(1, min(num_frames, int(clip.end - clip.start)))
        step = (last - first + 1) // count
        return clip.on_screen([first + step * place for place in range(count)])


class AtRate(FrameSampler):
    """Every n-th frame, n so that about ``fps`` are taken a second; `Linspace` where these are over ``num_frames``.

    LLaVA-Video's rule (LLaVA-VL/LLaVA-NeXT, ``llava/utils.py``), with n at least 1, where it fails on slow videos.

    Args:
        fps: Frames a second.
    """

    def __init__(self, fps: float = 1.0) -> None:
        if not 0 < fps < math.inf:
            raise ValueError(f"got fps={fps}, expected more than 0; ask for a number of frames a second")
        self.fps = fps

    def times(self, clip: Timeline, num_frames: int) -> list[float]:
        """Choose up to ``num_frames`` times."""
        _check(num_frames)
        first, last = clip.indices()
        places = list(range(0, last - first + 1, max(1, round(clip.fps / self.fps))))
        if len(places) > num_frames:
            places = _linspace(last - first + 1, num_frames)
        return clip.on_screen([first + place for place in places])


class RandomSampler(FrameSampler):
    """Draws lots: the same seed, epoch and clip give the same frames, whatever the number of processes.

    Args:
        seed: Seeds the draws.
    """

    is_random = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Draw others from now on; loader processes that run already take part."""
        self._epoch.fill_(epoch)

    def draws(self, clip: Timeline) -> random.Random:
        """Give the lots of a clip."""
        return random.Random(f"{self.seed}|{int(self._epoch)}|{clip.size}|{clip.start}|{clip.end}")


class RandomInSegment(RandomSampler):
    """One frame at random from each of equal segments, others in each epoch, as PPLLaVA trains.

    PPLLaVA (farewellthree/PPLLaVA, ``ppllava/datasets/datasets/utils.py``) never takes the last frame of a segment;
    here each is as likely.

    Args:
        seed: Seeds the draws.
    """

    def times(self, clip: Timeline, num_frames: int) -> list[float]:
        """Choose exactly ``num_frames`` times; frames of a clip that has fewer repeat."""
        _check(num_frames)
        first, last = clip.indices()
        bounds = np.linspace(0, last - first + 1, num_frames + 1).astype(int).tolist()
        draws = self.draws(clip)
        return clip.on_screen([first + draws.randrange(low, max(high, low + 1)) for low, high in pairwise(bounds)])


class KeyFrames(FrameSampler):
    """Key frames, which decode without others; from too many, the middles of as many equal groups as frames are wanted.

    A clip without one gives its first frame. Every packet is read, so the cost grows with the length of the video.
    """

    def times(self, clip: Timeline, num_frames: int) -> list[float]:
        """Choose up to ``num_frames`` times."""
        _check(num_frames)
        inside = [time for time in clip.key_times() if clip.start <= time < clip.end] or [clip.start]
        if len(inside) <= num_frames:
            return inside
        return [inside[int(middle)] for middle in uniform_midpoints(0.0, float(len(inside)), num_frames)]


def _linspace(count: int, num_frames: int) -> list[int]:
    """Spread over 0 … count - 1; numpy's rounding is part of the rule."""
    return np.linspace(0, count - 1, num_frames, dtype=int).tolist()


def _check(num_frames: int) -> None:
    if num_frames < 1:
        raise ValueError(f"got num_frames={num_frames}, expected at least 1; ask for one or more frames")
