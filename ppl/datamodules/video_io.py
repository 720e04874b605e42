"""Decoding of video frames at wanted times, at a cost that does not grow with the length of the video.

Times are seconds from the start of the video stream; FFmpeg's integer ticks ("pts") stay inside this file.

Axes: t frames | H W pixel rows, columns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8
from torch import Tensor

from ppl.datamodules.sampling import uniform_midpoints

_FROM_THE_START_ONLY = frozenset({"mpeg"})
"""Containers whose times are right only when read from the beginning."""


class VideoError(ValueError):
    """A video that cannot give the frames asked of it; the message names the file, the fault and the remedy."""


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


@dataclass(frozen=True)
class _Source:
    """An open video stream and its clock."""

    path: str | Path
    container: InputContainer
    stream: VideoStream
    tick: Fraction
    """Seconds of one unit of pts."""
    origin: int
    """The pts at which the stream starts."""

    def pts(self, seconds: float) -> int:
        """Convert to pts, forgiving the rounding of times that fall on a frame's first tick."""
        return self.origin + math.floor(float(Fraction(seconds) / self.tick) + 1e-3)

    def seconds(self, pts: int) -> float:
        return float((pts - self.origin) * self.tick)

    def shown_at(self, frame: VideoFrame) -> int:
        """Return the pts at which a frame appears."""
        if frame.pts is None:
            raise VideoError(f"{self.path}: frames have no times; convert it: ffmpeg -i IN OUT.mp4")
        return frame.pts

    @property
    def fps(self) -> float:
        return float(self.stream.average_rate or self.stream.guessed_rate or 25)


class _Entry(NamedTuple):
    """A key frame decoding can start from."""

    target: int
    """Seeking to this pts leads to the key frame."""
    pts: int
    """When the key frame is shown."""


def read_video(path: str | Path, num_frames: int, *, start: float | None = None, end: float | None = None) -> VideoClip:
    """Read the frames on screen at the middles of ``num_frames`` equal segments of a clip.

    Always gives ``num_frames`` frames: those of a short video repeat, and where sound outlasts the picture the last
    frame holds, as it does on screen. Damage the decoder notices on the way to a wanted
    frame raises; nothing is put in its place. Most codecs have no checksums, so some damage goes unnoticed.

    Args:
        path: Any container and codec FFmpeg reads.
        num_frames: How many frames.
        start: First second of the clip; None for the start of the video.
        end: Second at which the clip stops; None, or later than the end of the video, for that end.
    """
    with _open(path) as source:
        duration = _duration(source)
        first = 0.0 if start is None else start
        last = duration if end is None else min(end, duration)
        if not 0 <= first < duration or not first < last:
            raise VideoError(
                f"{path}: clip [{first}, {end}) s does not fit a video of {duration:.3f} s; "
                f"use 0 <= start < {duration:.3f} and end > start"
            )
        found = _frames_at(source, [source.pts(time) for time in uniform_midpoints(first, last, num_frames)])
        timestamps = tuple(source.seconds(source.shown_at(frame)) for frame in found)
        return VideoClip(_upright_rgb(found), timestamps, duration)


def probe_video(path: str | Path) -> VideoInfo:
    """Describe a video from its headers and first frame.

    Args:
        path: Any container and codec FFmpeg reads.
    """
    with _open(path) as source:
        (frame,) = _frames_at(source, [source.origin])
        turned = frame.rotation % 180 == 90
        height, width = (frame.width, frame.height) if turned else (frame.height, frame.width)
        codec = source.stream.codec_context.codec.canonical_name
        return VideoInfo(_duration(source), source.fps, height, width, frame.rotation % 360, codec)


@contextmanager
def _open(path: str | Path) -> Iterator[_Source]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such video file; correct the path or the media root")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: FFmpeg cannot open it ({error}); download it again or convert it") from error
    with container:
        moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not moving or moving[0].codec_context is None or moving[0].time_base is None:
            raise VideoError(
                f"{path}: no video stream FFmpeg can decode; drop the record or point it at a file with a picture"
            )
        stream = moving[0]
        # Report what the decoder notices rather than conceal it; one thread, as data workers fill the cores.
        stream.codec_context.options = {"err_detect": "explode"}
        stream.codec_context.thread_count = 1
        yield _Source(path, container, stream, moving[0].time_base, stream.start_time or 0)


def _duration(source: _Source) -> float:
    """Read the length of the stream, from the most to the least specific of its headers, else from its packets."""
    stream, container = source.stream, source.container
    if stream.duration:
        seconds = float(stream.duration * source.tick)
    elif match := re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):
        hours, minutes, rest = match.groups()
        seconds = int(hours) * 3600 + int(minutes) * 60 + float(rest) + source.seconds(0)
    elif container.duration:
        seconds = container.duration / av.time_base
    else:
        with _open(source.path) as fresh:
            ends = [p.pts + (p.duration or 0) for p in fresh.container.demux(fresh.stream) if p.pts is not None]
            seconds = fresh.seconds(max(ends, default=fresh.origin))
    return max(seconds, 1 / source.fps)


def _frames_at(source: _Source, wanted: list[int]) -> list[VideoFrame]:
    """Find the frame on screen at each wanted pts (in order), decoding each stretch from its own key frame."""
    entries = [_entry_before(source, pts) for pts in wanted]
    stretches = groupby(zip(entries, wanted, strict=True), key=lambda pair: pair[0] and pair[0].pts)
    frames = []
    for _, stretch in stretches:
        found, times = zip(*stretch, strict=True)
        frames += _decode_stretch(source, found[0], times)
    return frames


def _entry_before(source: _Source, wanted: int) -> _Entry | None:
    """Find the last key frame shown by ``wanted``, reading packets but decoding none; None: start at the beginning."""
    if source.container.format.name in _FROM_THE_START_ONLY:
        return None
    target, step = wanted, max(1, round(1 / source.tick))
    while target > source.origin:
        try:
            source.container.seek(target, stream=source.stream)
            packets = source.container.demux(source.stream)
            key = next((p.pts for p in packets if p.is_keyframe and p.pts is not None), None)
        except FFmpegError:
            return None
        if key is not None and key <= wanted:
            return _Entry(target, key)
        target, step = wanted - step, step * 2
    return None


def _decode_stretch(source: _Source, entry: _Entry | None, wanted: Sequence[int]) -> list[VideoFrame]:
    """Decode from a key frame up to the last wanted pts.

    Right after a seek frames may refer to ones before the key frame: they are missing or look damaged. So a fault
    counts only if it is there when coming from an earlier key frame too.
    """
    if entry is not None:
        with suppress(VideoError):
            found = _pick(source, _decode(source, entry), wanted)
            if source.shown_at(found[0]) <= wanted[0]:
                return found
        earlier = _entry_before(source, entry.pts - 1)
        if earlier is not None:
            found = _pick(source, _decode(source, earlier, settled=entry.pts), wanted)
            if source.shown_at(found[0]) <= wanted[0]:
                return found
    with _open(source.path) as fresh:
        return _pick(fresh, _decode(fresh), wanted)


def _decode(source: _Source, entry: _Entry | None = None, settled: int | None = None) -> Iterator[VideoFrame]:
    """Yield frames in the order of their appearance, from a key frame or, of a fresh source, from the beginning.

    Faults before the key frame shown at ``settled`` are forgiven.
    """
    if entry is not None:
        source.container.seek(entry.target, stream=source.stream)
    waiting, forgiving = entry is not None, settled is not None
    for packet in source.container.demux(source.stream):
        waiting = waiting and not packet.is_keyframe
        if settled is not None and packet.is_keyframe and packet.pts is not None:
            forgiving = forgiving and packet.pts < settled
        if not waiting:
            with suppress(FFmpegError) if forgiving else nullcontext():
                yield from _decode_packet(packet)


def _decode_packet(packet: Packet[VideoStream]) -> list[VideoFrame]:
    return packet.decode()


def _pick(source: _Source, frames: Iterable[VideoFrame], wanted: Sequence[int]) -> list[VideoFrame]:
    """Take, for each wanted pts, the last frame that appears by then."""
    picked: list[VideoFrame] = []
    shown: VideoFrame | None = None
    try:
        for frame in frames:
            if frame.is_corrupt:
                raise InvalidDataError(0, "the frame is marked corrupt")
            if shown is not None and source.shown_at(frame) < source.shown_at(shown):
                raise VideoError(f"{source.path}: times of frames go backwards; convert it: ffmpeg -i IN OUT.mp4")
            while shown is not None and wanted[len(picked)] < source.shown_at(frame):
                picked.append(shown)
                if len(picked) == len(wanted):
                    return picked
            shown = frame
    except FFmpegError as error:
        raise _stopped(source, f"damaged ({error})", shown, wanted[len(picked)]) from error
    if shown is None:
        raise VideoError(f"{source.path}: its video stream has no frames; drop the record or fetch the file again")
    hold = max(shown.duration, math.ceil(1 / (source.fps * source.tick)))
    if wanted[-1] >= source.shown_at(shown) + hold and not _goes_on(source, shown, wanted[-1]):
        raise _stopped(source, "cut short", shown, wanted[-1])
    return picked + [shown] * (len(wanted) - len(picked))


def _stopped(source: _Source, fault: str, shown: VideoFrame | None, wanted: int) -> VideoError:
    where = "before the first frame" if shown is None else f"at {source.seconds(source.shown_at(shown)):.3f} s"
    return VideoError(
        f"{source.path}: {fault}; decoding stopped {where}, before the frame wanted at "
        f"{source.seconds(wanted):.3f} s; fetch the file anew, drop the record or keep start and end in the intact part"
    )


def _goes_on(source: _Source, shown: VideoFrame, wanted: int) -> bool:
    """Tell a stream that ends before the sound (its last frame holds) from a file that is cut short."""
    time = wanted * source.tick
    a_second_before = source.shown_at(shown) - round(1 / source.tick)
    with _open(source.path) as fresh, suppress(FFmpegError):
        sound = fresh.container.streams.audio
        if sound:
            fresh.container.seek(max(a_second_before, source.origin), stream=fresh.stream)
            packets = fresh.container.demux(sound)
            return any(p.pts is not None and (p.pts + (p.duration or 0)) * p.time_base >= time for p in packets)
    return False


def _upright_rgb(frames: list[VideoFrame]) -> UInt8[Tensor, "t 3 H W"]:
    """Convert frames to RGB, turn them upright, and bring streams that change resolution to that of the first."""
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
