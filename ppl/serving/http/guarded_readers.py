"""Look into clients' media in processes of their own, which a hostile file may crash or hang."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from queue import LifoQueue
from typing import TypeVar

from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.watchdog import GuardedDecoder

Result = TypeVar("Result")


class GuardedReaders(GuardedDecoder):
    """Several `GuardedDecoder`s for any number of threads: each serves one at a time.

    Args:
        decoder: Does the work.
        timeout_s: Seconds that one file may take.
        num_processes: How many at most; each starts when the others are busy.
    """

    def __init__(self, decoder: VideoDecoder, timeout_s: float, num_processes: int) -> None:
        super().__init__(decoder, timeout_s)
        self._idle: LifoQueue[GuardedDecoder] = LifoQueue()
        for _ in range(num_processes):
            self._idle.put(GuardedDecoder(self.decoder, self.timeout_s, self.memory_gib))

    def ask(self, path: str | Path, call: Callable[[], Result]) -> Result:
        """Look into a file in a process that is idle, or soon will be.

        Raises:
            VideoError: That process had to be killed, died or ran out of memory.
        """
        one = self._idle.get()  # the last that was put back, which has started
        try:
            return one.ask(path, call)
        finally:
            self._idle.put(one)
