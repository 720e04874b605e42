"""The line in which questions and other work wait for the thread that runs the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition
from typing import Any, Generic, TypeVar

from ppl.serving.answering import Asked
from ppl.serving.answers import Answer

Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """How much an engine takes on.

    Args:
        max_waiting: Questions, media to watch and calls that wait or are in work; further ones are refused.
        max_rows: Questions that are answered together.
        wait_ms: How long a question that could start waits for others to be answered with it.
        num_readers: Threads that decode media. They rest while twice ``max_rows`` wait decoded for the model, so that
            decoded media take no more memory than theirs.
    """

    max_waiting: int = 64
    max_rows: int = 8
    wait_ms: float = 5.0
    num_readers: int = 2

    def __post_init__(self) -> None:
        for name, least in {"max_waiting": 1, "max_rows": 1, "wait_ms": 0, "num_readers": 1}.items():
            if not getattr(self, name) >= least:
                msg = f"got {name}={getattr(self, name)}, expected at least {least}"
                raise ValueError(msg)


class FullError(Exception):
    """As many questions wait as may, or the engine is closing."""


class Call(Generic[Result]):
    """What the thread of the model does beside answering.

    Args:
        call: Does it.
    """

    def __init__(self, call: Callable[[], Result]) -> None:
        self.report: Future[Result] = Future()
        """What comes of it."""
        self._call = call

    def __call__(self) -> None:
        """Do it, unless it is cancelled."""
        if not self.report.set_running_or_notify_cancel():
            return
        try:
            self.report.set_result(self._call())
        except BaseException as error:  # belongs to whoever waits
            self.report.set_exception(error)

    def cancel(self) -> None:
        """Leave it undone, unless it has begun."""
        self.report.cancel()

    def fail(self, error: BaseException) -> None:
        """Raise an error for whoever waits."""
        if self.report.set_running_or_notify_cancel():
            self.report.set_exception(error)


class Line:
    """Work that was taken on and has not ended, and what of it is ready for the model, first come, first served.

    Any thread may use it; one takes out of it.

    Args:
        limits: How much may be in it.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.is_closing = False
        self._open: dict[Future[Any], Answer | Call[Any]] = {}
        self._ready: deque[Asked | Call[Any]] = deque()
        self._changed = Condition()

    @property
    def num_open(self) -> int:
        """What was taken on and has not ended."""
        return len(self._open)

    def take_on(self, job: Answer | Call[Any], begin: Callable[[], object]) -> None:
        """Count a job until its report is there.

        Args:
            job: The job.
            begin: Starts its way to `enter`.

        Raises:
            FullError: There is no room, or the line is closing.
        """
        with self._changed:
            if self.is_closing or len(self._open) >= self.limits.max_waiting:
                why = "closing" if self.is_closing else f"busy with {len(self._open)} others"
                msg = f"got a question while {why}, expected fewer than {self.limits.max_waiting}; ask again later"
                raise FullError(msg)
            begin()  # here, so that closing comes before or after
            self._open[job.report] = job
        job.report.add_done_callback(self._leave)  # which holds no job: what one holds goes with it

    def enter(self, job: Asked | Call[Any]) -> None:
        """Stand ready for the model."""
        with self._changed:
            self._ready.append(job)
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Wait until less than two full batches are ready, or nobody takes any out any more."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._ready) < 2 * self.limits.max_rows or self._is_over())

    def wait(self, seconds: float) -> bool:
        """Wait for work, for so long at most; whether there is something to do, or nothing will come any more."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._ready) or self._is_over(), seconds)

    def next(self) -> list[Asked] | Call[Any] | None:
        """Take out what to do next, with the questions that go with it; None: nothing any more."""
        with self._changed:
            if not self._ready:
                return None if self._is_over() else []
            first = self._ready.popleft()
            self._changed.notify_all()
            if not isinstance(first, Asked):
                return first
            if first.answer.ended.is_set():
                return []
            most = self.limits.max_rows - 1
            self._changed.wait_for(lambda: len(self._ready) >= most, self.limits.wait_ms / 1000)
            alike = [job for job in self._ready if isinstance(job, Asked) and job.goes_with(first)][:most]
            for job in alike:
                self._ready.remove(job)
            self._changed.notify_all()
            return [first, *alike]

    def close(self, seconds: float) -> None:
        """Take nothing more on, wait for so long until all is done, and cancel the rest."""
        with self._changed:
            self.is_closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._open, seconds)
            left = list(self._open.values())
        for job in left:
            job.cancel()

    def fail(self, error: BaseException) -> None:
        """Take nothing more on, and raise an error for all who wait."""
        with self._changed:
            self.is_closing = True
            self._ready.clear()
            self._changed.notify_all()
            left = list(self._open.values())
        for job in left:
            job.fail(error)

    def _is_over(self) -> bool:
        return self.is_closing and not self._open

    def _leave(self, report: Future[Any]) -> None:
        with self._changed:
            self._open.pop(report, None)
            self._changed.notify_all()
