"""Decoding of a video stream into frames that carry the time they appear.

Most containers store when each frame is shown: there decoding starts at the key frame before the wanted time. Others
(MPEG-PS, raw streams, H.264 with B-frames in AVI, ASF and MXF, any whose times turn out to be missing or to go
backwards) are read by another rule: frames appear in the order in which the decoder gives them, at the times that
:func:`_in_decoding_order` finds by decoding the stream once. Reading starts at the beginning again, so its cost grows.

Times are FFmpeg's integer ticks ("pts"), or seconds from the start of the video stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame

from ppl.datamodules.video_source import (
    DisorderError,
    Entry,
    Limits,
    TimedFrame,
    VideoError,
    VideoPacket,
    VideoSource,
    connect,
)

_STORES_TIMES = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "flv", "nut", "wtv"})
"""Containers with a place for the time at which a frame is shown, beside the one at which it is decoded."""
_HEAD = 32
"""Packets that show how a stream starts; FFmpeg's decoders hold back 16 frames at most."""
_JITTER = 3
"""Frames by which FFmpeg may mistake the place of a time in MPEG-PS: the first of a pack may belong to a B-frame."""

Result = TypeVar("Result")


def by_either_clock(path: str | Path, job: Callable[[VideoSource], Result], limits: Limits | None = None) -> Result:
    """Do a job on a video, by the stored times until they are found missing or out of order."""
    with _open(path, limits or Limits()) as source:
        with suppress(DisorderError):
            return job(source)
        return job(_in_decoding_order(source))


@contextmanager
def _open(path: str | Path, limits: Limits) -> Iterator[VideoSource]:
    """Open the first moving picture of a file and settle the clock to read it by."""
    with connect(path, {}, limits) as (container, stream):
        head: list[VideoPacket] = []
        with suppress(FFmpegError):
            head.extend(packet for packet in islice(container.demux(stream), _HEAD) if packet.size)
        pts = [packet.pts for packet in head if packet.pts is not None]
        dts = [packet.dts for packet in head if packet.dts is not None]
        first_pts = min(pts, default=stream.start_time or 0)
        origin = first_pts if stream.start_time is None else max(stream.start_time, first_pts)
        assert stream.time_base is not None
        first_dts = min(dts, default=origin)
        source = VideoSource(path, container, stream, stream.time_base, origin, first_dts, limits)
        reorders = bool(stream.codec_context.has_b_frames) and container.format.name not in _STORES_TIMES
        unsure = source.length_is_a_guess or (reorders and pts == sorted(pts))
        yield _in_decoding_order(source) if unsure else source


def _in_decoding_order(source: VideoSource) -> VideoSource:
    """Decode the stream once and time its frames in the order in which the decoder gives them.

    Of the times stored in the file FFmpeg hands each frame its pts and the dts of the packet that released it. The
    series with fewer steps backwards is believed, the pts if both are as good; :func:`_repaired` fills its gaps.
    Frames after a fault count for the length only: reading stops at the fault.
    """
    stored: list[tuple[int | None, int | None]] = []
    faults: list[int] = []
    with source.reopened(fflags="nofillin") as fresh, suppress(FFmpegError):  # without the times FFmpeg makes up
        for packet in fresh.packets():
            try:
                stored += [(frame.pts, frame.dts) for frame in decode_packet(packet)]
            except FFmpegError:
                faults.append(len(stored))
    times = min([pts for pts, _ in stored], [dts for _, dts in stored], key=_disorder)
    step = float(1 / (Fraction(source.fps) * source.tick))
    intact = faults[0] if faults else len(times)
    order = _repaired(times[:intact], step) + _repaired(times, step)[intact:]
    return replace(source, order=order, origin=order[0] if order else source.origin)


def _disorder(times: list[int | None]) -> float:
    """Count the steps backwards; no times at all are worse than any."""
    known = [time for time in times if time is not None]
    return float(sum(later < earlier for earlier, later in pairwise(known))) if known else math.inf


def _repaired(times: list[int | None], step: float) -> tuple[int, ...]:
    """Fill gaps in times that should not decrease.

    Times that fall behind an earlier one are dropped. If times are missing between others and those there agree with
    a constant rate, but for the jitter of MPEG-PS, frames are evenly spaced. Else those between known ones are spread
    evenly, and those before and after go on at the average rate.
    """
    latest, known = -math.inf, {}
    for index, time in enumerate(times):
        if time is not None and time > latest:
            latest = known[index] = time
    known = known or {0: 0}
    places, values = np.array(list(known)), np.array(list(known.values()), dtype=float)
    count, span = len(places), places[-1] - places[0]
    every = np.arange(len(times))
    even = values[0] + (every - places[0]) * step
    if count <= span and np.abs(even[places] - values).max(initial=0) <= _JITTER * step:
        return tuple(even.round().astype(int).tolist())
    step = (values[-1] - values[0]) / span if span else step
    spread = np.interp(every, places, values)
    spread += np.minimum(every - places[0], 0) * step + np.maximum(every - places[-1], 0) * step
    return tuple(spread.round().astype(int).tolist())


def entry_before(source: VideoSource, wanted: int) -> Entry | None:
    """Find the last key frame shown by ``wanted``, reading packets but decoding none; None: start at the beginning."""
    if source.order is not None:
        return None
    target, step = wanted, max(1, round(1 / source.tick))
    while target > source.origin:
        try:
            source.container.seek(target, stream=source.stream)
            key = next((p.pts for p in source.packets() if p.is_keyframe and p.pts is not None), None)
        except FFmpegError:
            return None
        if key is not None and key <= wanted:
            return Entry(target, key)
        target, step = wanted - step, step * 2
    return None


def decode(source: VideoSource, entry: Entry | None = None, settled: int | None = None) -> Iterator[TimedFrame]:
    """Yield frames in the order of their appearance, from a key frame or, of a fresh source, from the beginning.

    Faults before the key frame shown at ``settled`` are forgiven.
    """
    if entry is not None:
        source.container.seek(entry.target, stream=source.stream)
    waiting, forgiving, count = entry is not None, settled is not None, 0
    for packet in source.packets():
        waiting = waiting and not packet.is_keyframe
        if settled is not None and packet.is_keyframe and packet.pts is not None:
            forgiving = forgiving and packet.pts < settled
        if not waiting:
            with suppress(FFmpegError) if forgiving else nullcontext():
                for frame in decode_packet(packet):
                    pts = frame.pts if source.order is None else source.order[count]
                    if pts is None:
                        raise DisorderError(f"{source.path}: frames have no times; convert it: ffmpeg -i IN OUT.mp4")
                    yield TimedFrame(pts, frame)
                    count += 1


def decode_packet(packet: VideoPacket) -> list[VideoFrame]:
    """Feed the decoder."""
    return packet.decode()


def key_times(source: VideoSource) -> list[float]:
    """List when key frames are shown, in seconds, reading all packets and decoding none.

    Raises:
        VideoError: The container does not store when frames are shown.
    """
    if source.order is not None:
        raise VideoError(f"{source.path}: key frames have no times; convert it: ffmpeg -i IN OUT.mp4")
    with source.reopened() as fresh:
        shown = (p.pts for p in fresh.packets() if p.is_keyframe and not p.is_discard)
        return sorted(source.seconds(pts) for pts in shown if pts is not None and pts >= source.origin)
