"""Decode clients' videos in processes of their own, which a hostile file may crash or hang."""

from __future__ import annotations

from pathlib import Path
from threading import local

from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.frame_sampling import FrameSampler
from ppl.datamodules.video_io import VideoClip
from ppl.datamodules.watchdog import GuardedDecoder


class GuardedReaders(GuardedDecoder):
    """A `GuardedDecoder` for each thread that reads: one of them serves one thread at a time.

    Args:
        decoder: Does the work.
        timeout_s: Seconds that one video may take.
    """

    def __init__(self, decoder: VideoDecoder, timeout_s: float) -> None:
        super().__init__(decoder, timeout_s)
        self._mine = local()

    def read(
        self, path: str | Path, sampler: FrameSampler, num_frames: int, start: float | None, end: float | None
    ) -> VideoClip:
        """Read the frames on screen at the sampler's times, in the process of this thread.

        Raises:
            VideoError: Also where that process had to be killed, died or ran out of memory.
        """
        if not hasattr(self._mine, "decoder"):
            self._mine.decoder = GuardedDecoder(self.decoder, self.timeout_s, self.memory_gib)
        return self._mine.decoder.read(path, sampler, num_frames, start, end)
