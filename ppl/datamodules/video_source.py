"""Opening of video files: the stream to read, its clock, and limits that keep a hostile file from taking the machine.

Times are FFmpeg's integer ticks ("pts"), or seconds from the start of the video stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

if TYPE_CHECKING:
    VideoPacket = Packet[VideoStream]
else:
    VideoPacket = Packet  # no generic class before PyAV 18.1


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


class Limits(NamedTuple):
    """What a file may ask for; beyond it reading stops with an error."""

    max_pixels: int = 2**26
    """Of one frame. 8192 x 8192: twice an 8K picture; decoding takes some 12 bytes for each."""
    max_packets: int = 2_000_000
    """Read for one look at the file. 18 hours at 30 frames a second; each is noted in some 100 bytes at most."""


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
    limits: Limits
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
        with connect(self.path, options, self.limits) as (container, stream):
            yield replace(self, container=container, stream=stream)

    def packets(self) -> Iterator[VideoPacket]:
        """Read the stream's packets from where the container stands, up to the limit."""
        for count, packet in enumerate(self.container.demux(self.stream)):
            if count >= self.limits.max_packets:
                raise VideoError(
                    f"{self.path}: got over {count} packets in one look, expected at most max_packets="
                    f"{self.limits.max_packets}; drop the record, cut the video, or raise the decoder's max_packets"
                )
            yield packet


@contextmanager
def connect(path: str | Path, options: dict[str, str], limits: Limits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first moving picture of a file; pictures over the limit are refused before room is made for them."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such video file; correct the path or the media root")
    bounded = {"max_pixels": str(limits.max_pixels)}  # for the frames that FFmpeg decodes while opening
    try:
        container = av.open(str(path), metadata_errors="replace", options=bounded | options)
    except (FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: FFmpeg cannot open it ({error}); download it again or convert it") from error
    with container:
        moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not moving or moving[0].codec_context is None or moving[0].time_base is None:
            raise VideoError(f"{path}: no video stream FFmpeg can decode; drop the record or name another file")
        stream = moving[0]
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > limits.max_pixels:
            raise VideoError(
                f"{path}: got frames of {width} x {height} pixels, expected at most max_pixels={limits.max_pixels}; "
                "drop the record, scale the video down, or raise the decoder's max_pixels"
            )
        # Report what the decoder notices rather than conceal it; one thread, as data workers fill the cores.
        stream.codec_context.options = {"err_detect": "explode"} | bounded
        stream.codec_context.thread_count = 1
        yield container, stream
