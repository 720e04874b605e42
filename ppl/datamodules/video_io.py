"""Reading of video frames at wanted times.

Where the container stores when frames are shown, the cost does not grow with the length of the video; for the others,
:mod:`ppl.datamodules.video_stream` has the rule. Times are seconds from the first frame.

Axes: t frames | H W pixel rows, columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from av.error import FFmpegError, InvalidDataError
from jaxtyping import UInt8
from torch import Tensor

from ppl.datamodules.frame_sampling import FrameSampler, Midpoints, Timeline
from ppl.datamodules.video_length import clip_bounds, duration, goes_on
from ppl.datamodules.video_source import DisorderError, Entry, Limits, TimedFrame, VideoError, VideoSource
from ppl.datamodules.video_stream import by_either_clock, decode, entry_before, key_times


class VideoInfo(NamedTuple):
    """What a file says about its video stream."""

    duration: float
    """Seconds."""
    fps: float
    """Average; frames need not be evenly spaced."""
    height: int
    """Of the upright picture, in pixels."""
    width: int
    rotation: int
    """Degrees counter-clockwise that turn stored frames upright: 0, 90, 180 or 270."""
    codec: str


class VideoClip(NamedTuple):
    """Frames sampled from a video."""

    frames: UInt8[Tensor, "t 3 H W"]
    """Upright RGB."""
    timestamps: tuple[float, ...]
    """When each frame appears on screen: at or before the time it was asked for."""
    duration: float
    """Seconds of the whole video, not of the clip."""
    fps: float = 0.0
    """Average number of frames in a second of the whole video; 0: unknown."""


def read_video(
    path: str | Path,
    num_frames: int,
    *,
    start: float | None = None,
    end: float | None = None,
    sampler: FrameSampler | None = None,
    limits: Limits | None = None,
) -> VideoClip:
    """Read the frames of a clip that are on screen at the times a sampler chooses.

    Frames of a short video repeat, and where sound or subtitles outlast the picture
    the last frame holds, as it does on screen. Damage the decoder notices on the way to a wanted
    frame raises; nothing is put in its place. Most codecs have no checksums, so some damage goes unnoticed.

    Containers that do not store when frames are shown (MPEG-PS, raw streams, H.264 with B-frames in AVI or ASF) are
    decoded from the start, twice: correct before fast. Convert long ones to mp4.

    Args:
        path: Any container and codec FFmpeg reads.
        num_frames: How many frames at most, and exactly unless the sampler says otherwise.
        start: First second of the clip; None for the start of the video.
        end: Second at which the clip stops; None, or later than the end of the video, for that end.
        sampler: Chooses the times; None for the middles of ``num_frames`` equal segments.
        limits: What the file may ask for.
    """

    def read(source: VideoSource) -> VideoClip:
        wanted, length = wanted_times(source, sampler or Midpoints(), num_frames, start, end)
        found = frames_at(source, [source.pts(time) for time in wanted])
        return VideoClip(upright_rgb(found), tuple(source.seconds(shown.pts) for shown in found), length, source.fps)

    return by_either_clock(path, read, limits)


def wanted_times(
    source: VideoSource, sampler: FrameSampler, num_frames: int, start: float | None, end: float | None
) -> tuple[list[float], float]:
    """Let a sampler choose times, in order, of a clip; also give the seconds that the whole video lasts."""
    first, last, length = clip_bounds(source, start, end)
    size = Path(source.path).stat().st_size
    clip = Timeline(first, last, length, source.fps, size, lambda: key_times(source))
    return sampler.times(clip, num_frames), length


def probe_video(path: str | Path) -> VideoInfo:
    """Describe a video from its headers and first frame (and, of containers that store no times, all others).

    Args:
        path: Any container and codec FFmpeg reads.
    """

    def probe(source: VideoSource) -> VideoInfo:
        ((_, frame),) = frames_at(source, [source.origin])
        turned = frame.rotation % 180 == 90
        height, width = (frame.width, frame.height) if turned else (frame.height, frame.width)
        codec = source.stream.codec_context.codec.canonical_name
        return VideoInfo(duration(source), source.fps, height, width, frame.rotation % 360, codec)

    return by_either_clock(path, probe)


def frames_at(source: VideoSource, wanted: list[int]) -> list[TimedFrame]:
    """Find the frame on screen at each wanted pts (in order), decoding each stretch from its own key frame."""
    entries = [entry_before(source, pts) for pts in wanted]
    stretches = groupby(zip(entries, wanted, strict=True), key=lambda pair: pair[0] and pair[0].pts)
    frames = []
    for _, stretch in stretches:
        found, times = zip(*stretch, strict=True)
        frames += _decode_stretch(source, found[0], times)
    return frames


def _decode_stretch(source: VideoSource, entry: Entry | None, wanted: Sequence[int]) -> list[TimedFrame]:
    """Decode from a key frame up to the last wanted pts.

    Right after a seek frames may refer to ones before the key frame: they are missing or look damaged. So a fault
    counts only if it is there when coming from an earlier key frame too.
    """
    if entry is not None:
        with suppress(VideoError):
            found = list(shown_at(source, decode(source, entry), wanted))
            if found[0].pts <= wanted[0]:
                return found
        earlier = entry_before(source, entry.pts - 1)
        if earlier is not None:
            found = list(shown_at(source, decode(source, earlier, settled=entry.pts), wanted))
            if found[0].pts <= wanted[0]:
                return found
    with source.reopened() as fresh:
        return list(shown_at(fresh, decode(fresh), wanted))


def shown_at(source: VideoSource, frames: Iterable[TimedFrame], wanted: Sequence[int]) -> Iterator[TimedFrame]:
    """Yield, for each wanted pts, the last frame that appears by then."""
    shown, count = None, 0
    try:
        for timed in frames:
            if timed.frame.is_corrupt:
                raise InvalidDataError(0, "the frame is marked corrupt")
            if shown is not None and timed.pts < shown.pts:
                raise DisorderError(f"{source.path}: times of frames go backwards; convert it: ffmpeg -i IN OUT.mp4")
            while shown is not None and wanted[count] < timed.pts:
                yield shown
                count += 1
                if count == len(wanted):
                    return
            shown = timed
    except FFmpegError as error:
        raise _stopped(source, f"damaged ({error})", shown, wanted[count]) from error
    if shown is None:
        raise VideoError(f"{source.path}: its video stream has no frames; drop the record or fetch the file again")
    hold = max(shown.frame.duration, math.ceil(1 / (source.fps * source.tick)))
    if wanted[-1] >= shown.pts + hold and not goes_on(source, shown.pts + hold, wanted[-1]):
        raise _stopped(source, "cut short", shown, wanted[-1])
    yield from [shown] * (len(wanted) - count)


def _stopped(source: VideoSource, fault: str, shown: TimedFrame | None, wanted: int) -> VideoError:
    where = "before the first frame" if shown is None else f"at {source.seconds(shown.pts):.3f} s"
    return VideoError(
        f"{source.path}: {fault}; decoding stopped {where}, before the frame wanted at "
        f"{source.seconds(wanted):.3f} s; fetch the file anew, drop the record or keep start and end in the intact part"
    )


def upright_rgb(found: list[TimedFrame]) -> UInt8[Tensor, "t 3 H W"]:
    """Convert frames to RGB, turn them upright, and bring streams that change resolution to that of the first."""
    frames = [timed.frame for timed in found]
    width, height = frames[0].width, frames[0].height
    pictures: list[Tensor] = []
    for index, frame in enumerate(frames):
        if index and frame is frames[index - 1]:
            pictures.append(pictures[-1])
            continue
        stored = frame.to_ndarray(format="rgb24", width=width, height=height)
        upright = np.rot90(stored, round(frame.rotation / 90))
        pictures.append(torch.from_numpy(upright.copy()).permute(2, 0, 1))
    return torch.stack(pictures)
