"""Opening of video files, and decoding of their stream into frames that carry the time they appear.

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
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_STORES_TIMES = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "flv", "nut", "wtv"})
"""Containers with a place for the time at which a frame is shown, beside the one at which it is decoded."""
_HEAD = 32
"""Packets that show how a stream starts; FFmpeg's decoders hold back 16 frames at most."""
_JITTER = 3
"""Frames by which FFmpeg may mistake the place of a time in MPEG-PS: the first of a pack may belong to a B-frame."""

Result = TypeVar("Result")


class VideoError(ValueError):
    """A video that cannot give the frames asked of it; the message names the file, the fault and the remedy."""


class DisorderError(VideoError):
    """The stored times are missing or go backwards."""


class TimedFrame(NamedTuple):
    """A decoded frame."""

    pts: int
    """When it appears."""
    frame: VideoFrame


class Entry(NamedTuple):
    """A key frame decoding can start from."""

    target: int
    """Seeking to this pts leads to the key frame."""
    pts: int
    """When the key frame is shown."""


@dataclass(frozen=True)
class VideoSource:
    """An open video stream and its clock."""

    path: str | Path
    container: InputContainer
    stream: VideoStream
    tick: Fraction
    """Seconds of one unit of pts."""
    origin: int
    """The pts at which the first frame appears."""
    first_dts: int
    """When the first packet is to be decoded."""
    order: tuple[int, ...] | None = None
    """When each frame of the stream appears, in the order of decoding; None: as its own pts says."""

    def pts(self, seconds: float) -> int:
        """Convert to pts, forgiving the rounding of times that fall on a frame's first tick."""
        return self.origin + math.floor(float(Fraction(seconds) / self.tick) + 1e-3)

    def seconds(self, pts: int) -> float:
        """Convert from pts."""
        return float((pts - self.origin) * self.tick)

    @property
    def length_is_a_guess(self) -> bool:
        """Tell containers whose headers state no length; FFmpeg guesses one from the size of the file."""
        return self.container.format.name == "mpeg" or bool(self.container.format.flags & Flags.no_timestamps.value)

    @property
    def fps(self) -> float:
        """Average number of frames in a second."""
        if self.order and self.order[-1] > self.order[0]:
            return (len(self.order) - 1) / self.seconds(self.order[-1])
        return float(self.stream.average_rate or self.stream.guessed_rate or 25)

    @contextmanager
    def reopened(self, **options: str) -> Iterator[VideoSource]:
        """Give the same source, unread."""
        with _connect(self.path, options) as (container, stream):
            yield replace(self, container=container, stream=stream)


def by_either_clock(path: str | Path, job: Callable[[VideoSource], Result]) -> Result:
    """Do a job on a video, by the stored times until they are found missing or out of order."""
    with _open(path) as source:
        with suppress(DisorderError):
            return job(source)
        return job(_in_decoding_order(source))


@contextmanager
def _open(path: str | Path) -> Iterator[VideoSource]:
    """Open the first moving picture of a file and settle the clock to read it by."""
    with _connect(path, {}) as (container, stream):
        head: list[Packet[VideoStream]] = []
        with suppress(FFmpegError):
            head.extend(packet for packet in islice(container.demux(stream), _HEAD) if packet.size)
        pts = [packet.pts for packet in head if packet.pts is not None]
        dts = [packet.dts for packet in head if packet.dts is not None]
        first_pts = min(pts, default=stream.start_time or 0)
        origin = first_pts if stream.start_time is None else max(stream.start_time, first_pts)
        assert stream.time_base is not None
        source = VideoSource(path, container, stream, stream.time_base, origin, min(dts, default=origin))
        reorders = bool(stream.codec_context.has_b_frames) and container.format.name not in _STORES_TIMES
        unsure = source.length_is_a_guess or (reorders and pts == sorted(pts))
        yield _in_decoding_order(source) if unsure else source


@contextmanager
def _connect(path: str | Path, options: dict[str, str]) -> Iterator[tuple[InputContainer, VideoStream]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such video file; correct the path or the media root")
    try:
        container = av.open(str(path), metadata_errors="replace", options=options)
    except (FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: FFmpeg cannot open it ({error}); download it again or convert it") from error
    with container:
        moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not moving or moving[0].codec_context is None or moving[0].time_base is None:
            raise VideoError(f"{path}: no video stream FFmpeg can decode; drop the record or name another file")
        stream = moving[0]
        # Report what the decoder notices rather than conceal it; one thread, as data workers fill the cores.
        stream.codec_context.options = {"err_detect": "explode"}
        stream.codec_context.thread_count = 1
        yield container, stream


def _in_decoding_order(source: VideoSource) -> VideoSource:
    """Decode the stream once and time its frames in the order in which the decoder gives them.

    Of the times stored in the file FFmpeg hands each frame its pts and the dts of the packet that released it. The
    series with fewer steps backwards is believed, the pts if both are as good; :func:`_repaired` fills its gaps.
    Frames after a fault count for the length only: reading stops at the fault.
    """
    stored: list[tuple[int | None, int | None]] = []
    faults: list[int] = []
    with source.reopened(fflags="nofillin") as fresh, suppress(FFmpegError):  # without the times FFmpeg makes up
        for packet in fresh.container.demux(fresh.stream):
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
            packets = source.container.demux(source.stream)
            key = next((p.pts for p in packets if p.is_keyframe and p.pts is not None), None)
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
    for packet in source.container.demux(source.stream):
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


def decode_packet(packet: Packet[VideoStream]) -> list[VideoFrame]:
    """Feed the decoder."""
    return packet.decode()
