"""How long training waits for its loader: Lightning tells a profiler when it asks for a batch and when it has one."""

from __future__ import annotations

import time

from lightning.pytorch.profilers import PassThroughProfiler

_FETCH = ".train_dataloader_next"


class LoaderWait(PassThroughProfiler):
    """A profiler that records nothing else; given to the trainer where the recipe has no profiler of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        """Waited so far; with no loader processes, this is the loading itself."""
        self._since = 0.0

    def start(self, action_name: str) -> None:
        """A batch is asked for."""
        if action_name.endswith(_FETCH):
            self._since = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """A batch is there."""
        if action_name.endswith(_FETCH):
            self.seconds += time.perf_counter() - self._since
