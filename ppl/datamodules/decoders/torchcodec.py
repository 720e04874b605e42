"""torchcodec, an optional extra: as fast as PyAV by seeking, and FFmpeg's own build where one is installed.

It needs FFmpeg's shared libraries (versions 4 to 9) on the loader's path; those inside PyAV's wheel have other names.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.decoders.pyav import PyAVDecoder
from ppl.datamodules.frame_sampling import FrameSampler
from ppl.datamodules.video_io import VideoClip, wanted_times
from ppl.datamodules.video_source import Limits, VideoSource
from ppl.datamodules.video_stream import by_either_clock
from ppl.extras import missing

_CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
"""Where torchcodec was found to give the right frames; in MPEG-TS and AVI it gave others."""


class TorchCodecDecoder(VideoDecoder):
    """Gives the frames that `PyAVDecoder` gives, decoded by torchcodec, for the mp4 and Matroska families.

    The rest of the ladder is PyAV: it reads the headers, other containers, and files that torchcodec gives up on or
    loses its way in, so that errors are the same. Unlike PyAV, torchcodec says nothing about damage that FFmpeg
    conceals. Every packet is read once, as only that makes torchcodec's times exact.

    Args:
        max_pixels: Largest frame that is decoded.
        max_packets: Most packets read in one look at the file.

    Raises:
        MissingExtraError: torchcodec is missing, or finds no FFmpeg.
    """

    def __init__(self, max_pixels: int = Limits().max_pixels, max_packets: int = Limits().max_packets) -> None:
        try:
            import torchcodec.decoders  # noqa: F401
        except (ImportError, RuntimeError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            more = " and FFmpeg's shared libraries (say the system's package ffmpeg), or use PyAVDecoder"
            raise missing("torchcodec", f"a torchcodec that loads ({reason})", "TorchCodecDecoder", more) from error
        self.limits = Limits(max_pixels, max_packets)

    def read(
        self, path: str | Path, sampler: FrameSampler, num_frames: int, start: float | None, end: float | None
    ) -> VideoClip:
        """Read the frames on screen at the sampler's times."""

        def read(source: VideoSource) -> VideoClip | None:
            if source.order is not None or source.container.format.name not in _CONTAINERS:
                return None
            wanted, length = wanted_times(source, sampler, num_frames, start, end)
            return _decode(source, [source.pts(time) for time in wanted], length)

        by_pyav = PyAVDecoder(*self.limits)
        return by_either_clock(path, read, self.limits) or by_pyav.read(path, sampler, num_frames, start, end)


def _decode(source: VideoSource, wanted: list[int], length: float) -> VideoClip | None:
    """Decode the frame on screen at each wanted pts; None where torchcodec gives up."""
    from torchcodec.decoders import VideoDecoder as Decoder  # pyright: ignore[reportPrivateImportUsage]

    try:
        decoder = Decoder(source.path, stream_index=source.stream.index, num_ffmpeg_threads=1, seek_mode="exact")
        data = decoder.metadata
        first, stop = data.begin_stream_seconds_from_content, data.end_stream_seconds_from_content
        if first is None or stop is None:
            return None
        last = stop - 0.5 * float(source.tick)
        times = [min(max(float((pts + 0.5) * source.tick), first), last) for pts in wanted]  # mid-tick: safe to round
        batch = decoder.get_frames_played_at(times)
    except (RuntimeError, ValueError, IndexError):
        return None
    shown = batch.pts_seconds.tolist()
    if any(late > time for late, time in zip(shown, times, strict=True)):  # lost the way after a seek
        return None
    origin = float(source.origin * source.tick)
    frames = batch.data.to(torch.uint8).contiguous()
    return VideoClip(frames, tuple(time - origin for time in shown), length, source.fps)
