"""What the routes of one server share."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from ppl.serving.engine import Engine
from ppl.serving.http.bodies import Bodies
from ppl.serving.http.errors import ApiError
from ppl.serving.http.media import MediaIntake
from ppl.serving.http.metrics import Metrics
from ppl.serving.http.settings import Settings
from ppl.serving.http.store import Store

_NUM_INTAKE = 2


class Serving:
    """An engine, and what stands between it and clients.

    Args:
        engine: Answers.
        settings: What is offered.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.settings = settings
        self.created = int(time.time())
        self.draining = Event()
        """Set when the server was told to end."""
        self.ended = asyncio.Event()
        """Set when it ends: nothing is in line any more."""
        self.store = Store(int(settings.uploads_gib * 2**30), 60 * settings.upload_minutes)
        self.metrics = Metrics(engine, self.store)
        self.bodies = Bodies(settings.caps.body_bytes, settings.stall_seconds)
        self.intake_threads = ThreadPoolExecutor(_NUM_INTAKE, "intake")
        self.answer_threads = ThreadPoolExecutor(engine.limits.max_waiting, "answer")
        """Each waits for the next piece of one answer."""
        self.intake = MediaIntake(settings, self.store, self.intake_threads, engine.processor.decoder)

    @property
    def is_ending(self) -> bool:
        """Whether nothing new is taken any more; also where the thread of the model has died."""
        return self.draining.is_set() or self.engine.is_closing

    @property
    def models(self) -> dict[str, str | None]:
        """The pooler behind each name of a model; None: the model's own."""
        name = self.settings.name
        return {name: None, **{f"{name}:{pooler}": pooler for pooler in self.engine.poolers}}

    def check_taking(self) -> None:
        """Refuse what comes while the server ends, or while the line is full.

        Raises:
            ApiError: It does, or is.
        """
        if self.is_ending:
            raise ApiError(503, "the server is ending; ask another one", retry_after=5)
        most = self.engine.limits.max_waiting
        if self.engine.num_open >= most:
            msg = f"got more than {most} questions at once; try again"
            raise ApiError(429, msg, code="rate_limit_exceeded", retry_after=1)

    def close(self) -> None:
        """Remove clients' media; the engine is somebody else's."""
        self.store.close()
        for threads in (self.intake_threads, self.answer_threads):
            threads.shutdown(wait=False, cancel_futures=True)
