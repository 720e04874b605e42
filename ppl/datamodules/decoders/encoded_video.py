"""pytorchvideo's reader and clip samplers: an optional extra for recipes that come from there.

pytorchvideo 0.1.5 (2022) is its last release. Its reader turns every frame of a stretch to float32, so it is asked for
short stretches, and it is slower than the others.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.frame_sampling import FrameSampler, RandomSampler, Timeline
from ppl.datamodules.sampling import uniform_midpoints
from ppl.datamodules.video_io import VideoClip, wanted_times
from ppl.datamodules.video_source import Limits, VideoError, VideoSource
from ppl.datamodules.video_stream import by_either_clock
from ppl.extras import missing


class EncodedVideoDecoder(VideoDecoder):
    """Reads through ``pytorchvideo.data.encoded_video.EncodedVideo``; headers are read as PyAVDecoder does.

    Frames come as they are stored, not turned upright, and with the times they were asked for, as `EncodedVideo` tells
    no others.

    Args:
        max_pixels: Largest frame that is decoded.
        max_packets: Most packets read in one look at the file.

    Raises:
        MissingExtraError: pytorchvideo is missing.
    """

    def __init__(self, max_pixels: int = Limits().max_pixels, max_packets: int = Limits().max_packets) -> None:
        _pytorchvideo()
        self.limits = Limits(max_pixels, max_packets)

    def read(
        self, path: str | Path, sampler: FrameSampler, num_frames: int, start: float | None, end: float | None
    ) -> VideoClip:
        """Read the frames on screen at the sampler's times."""

        def read(source: VideoSource) -> VideoClip:
            wanted, length = wanted_times(source, sampler, num_frames, start, end)
            if source.order is not None:
                raise VideoError(
                    f"{path}: {source.container.format.name} does not store when frames are shown, which EncodedVideo "
                    "needs; convert it: ffmpeg -i IN OUT.mp4, or use PyAVDecoder"
                )
            pts = [source.pts(time) for time in wanted]
            return VideoClip(_decode(source, pts), tuple(map(source.seconds, pts)), length, source.fps)

        return by_either_clock(path, read, self.limits)


class PyTorchVideoClips(RandomSampler):
    """Middles of equal segments within the clips of a sampler of ``pytorchvideo.data.clip_sampling``.

    Args:
        sampling: ``uniform`` (clips follow one another), ``random`` (one anywhere) or ``constant_clips_per_video``.
        clip_duration: Seconds of a clip.
        clips_per_video: Clips of ``constant_clips_per_video``.
        seed: Seeds the draws of ``random``.

    Raises:
        MissingExtraError: pytorchvideo is missing.
    """

    def __init__(
        self,
        sampling: Literal["uniform", "random", "constant_clips_per_video"] = "random",
        clip_duration: float = 2.0,
        clips_per_video: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        if not (clip_duration > 0 and clips_per_video > 0):
            raise ValueError(
                f"got clip_duration={clip_duration}, clips_per_video={clips_per_video}, expected more than 0; raise it"
            )
        self.sampling: Literal["uniform", "random", "constant_clips_per_video"] = sampling
        self.clip_duration = clip_duration
        self.clips_per_video = clips_per_video
        self.is_random = sampling == "random"
        self._make, _ = _pytorchvideo()

    def times(self, clip: Timeline, num_frames: int) -> list[float]:
        """Choose exactly ``num_frames`` times, spread over the clips; some of more clips than frames have none."""
        if num_frames < 1:
            raise ValueError(f"got num_frames={num_frames}, expected at least 1; ask for one or more frames")
        clips = self._clips(clip)
        shares = pairwise(floor(num_frames * place / len(clips)) for place in range(len(clips) + 1))
        times: list[float] = []
        for (start, end), (low, high) in zip(clips, shares, strict=True):
            if high > low:
                times += uniform_midpoints(clip.start + start, min(clip.start + end, clip.end), high - low)
        return sorted(times)

    def _clips(self, clip: Timeline) -> list[tuple[float, float]]:
        """Ask pytorchvideo's sampler, which draws from Python's own generator, until it says that it is done."""
        number = [self.clips_per_video] if self.sampling == "constant_clips_per_video" else []
        choose = self._make(self.sampling, self.clip_duration, *number)
        before = random.getstate()
        random.setstate(self.draws(clip).getstate())
        try:
            chosen = [choose(0.0, clip.end - clip.start, {})]
            while not chosen[-1].is_last_clip:
                chosen.append(choose(chosen[-1].clip_end_sec, clip.end - clip.start, {}))
        finally:
            random.setstate(before)
        return [(float(one.clip_start_sec), float(one.clip_end_sec)) for one in chosen]


def _decode(source: VideoSource, wanted: list[int]) -> UInt8[Tensor, "t 3 H W"]:
    """Decode the frame on screen at each wanted pts: the last of a stretch up to it that has any."""
    _, open_video = _pytorchvideo()
    video = open_video(str(source.path), decode_audio=False, decoder="pyav")
    began = source.stream.start_time or 0
    pictures = []
    try:
        for pts in wanted:
            reach, frames = Fraction(2 / source.fps), None
            time = (pts - began) * source.tick
            while frames is None:
                frames = video.get_clip(max(Fraction(0), time - reach), time + source.tick / 2)["video"]
                if frames is None and reach > time:
                    raise VideoError(
                        f"{source.path}: EncodedVideo finds no frame at {source.seconds(pts):.3f} s; fetch the file "
                        "anew, or use PyAVDecoder, which says why"
                    )
                reach *= 2
            pictures.append(frames[:, -1].to(torch.uint8))
    finally:
        video.close()
    return torch.stack(pictures)


def _pytorchvideo() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Give ``make_clip_sampler`` and ``EncodedVideo.from_path``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its sources: "\\d" in strings that are not raw
            from pytorchvideo.data.clip_sampling import make_clip_sampler
            from pytorchvideo.data.encoded_video import EncodedVideo
    except ImportError as error:
        more = ", or use another sampler and decoder"
        wanted = "EncodedVideoDecoder or PyTorchVideoClips"
        raise missing("pytorchvideo", f"a pytorchvideo that loads ({error})", wanted, more) from error
    return make_clip_sampler, EncodedVideo.from_path
