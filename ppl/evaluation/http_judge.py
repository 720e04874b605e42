"""A judge behind an endpoint that speaks OpenAI's chat completions: a server of one's own, or somebody's service."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

from ppl.evaluation.chat_completion import Endpoint, EndpointError, RequestError, complete
from ppl.evaluation.judge import Judge, Request
from ppl.evaluation.judge_cache import JudgeCache


class Patience(NamedTuple):
    """How long a judge is waited for."""

    timeout: float = 60.0
    """Seconds for one reply, from the first byte sent to the last received."""
    retries: int = 5
    """Of one request."""
    first_wait: float = 1.0
    """Seconds before the first retry; twice as long before each further one, and up to half as much more at random."""
    longest_wait: float = 60.0
    """Bounds that, and what the server asks for in Retry-After."""
    failures: int = 10
    """Requests in a row that get no reply, with all their retries, before the judge is given up."""


class HttpJudge(Judge):
    """Asks a model at an endpoint, several requests at a time, and keeps its replies.

    Args:
        endpoint: Where it is, and what is asked of it.
        cache: Keeps its replies; what it holds is not asked.
        patience: How long it is waited for.
        concurrency: Requests at a time.
        progress: Told how many of the requests have been dealt with, and how many there are.

    Raises:
        ValueError: It would never be asked, or never waited for.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        cache: JudgeCache,
        patience: Patience | None = None,
        concurrency: int = 8,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.cache = cache
        self.patience = patience or Patience()
        if concurrency < 1 or self.patience.retries < 0 or self.patience.timeout <= 0:
            msg = (
                f"got {concurrency} requests at a time, {self.patience.retries} retries and {self.patience.timeout:g} "
                "s for a reply, expected at least 1, 0 and more than 0"
            )
            raise ValueError(msg)
        self.concurrency = concurrency
        self.failures: Counter[str] = Counter()
        """Requests without a reply, by their last failure."""
        self._progress = progress or (lambda done, total: None)
        self._in_a_row = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model and its temperature."""
        return {"model": self.endpoint.model, "temperature": self.endpoint.temperature}

    def cached(self, request: Request) -> str | None:
        """The reply that is kept already."""
        return self.cache.get(self.identity, request)

    def ask(self, requests: Sequence[Request]) -> list[str | None]:
        """Ask what is not kept, each request once however often it comes; None for those whose retries were in vain.

        Raises:
            ValueError: The endpoint refuses every request (key, address, model), or has failed too often in a row.
        """
        left = [request for request in dict.fromkeys(requests) if self.cached(request) is None]
        self._stopped.clear()
        self._in_a_row = 0
        with ThreadPoolExecutor(self.concurrency) as pool:
            asked = [pool.submit(self._ask, request) for request in left]
            try:
                for done, each in enumerate(as_completed(asked), start=1):
                    each.result()
                    self._progress(done, len(left))
            except BaseException:  # an interrupt too: what waits is not sent
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [self.cached(request) for request in requests]

    def _ask(self, request: Request) -> None:
        if self._stopped.is_set():
            return
        failure = RequestError("was not asked")
        for tried in range(self.patience.retries + 1):
            if tried and self._stopped.wait(self._pause(tried, failure)):
                return
            try:
                reply = complete(self.endpoint, request, self.patience.timeout)
            except EndpointError:
                self._stopped.set()  # at once: this thread takes the next request before another sees the error
                raise
            except RequestError as error:
                failure = error
                if not error.passes:
                    break
            else:
                self.cache.add(self.identity, request, reply)
                with self._lock:
                    self._in_a_row = 0
                return
        self._count(failure)

    def _pause(self, tried: int, failure: RequestError) -> float:
        wait = self.patience.first_wait * 2 ** (tried - 1) * random.uniform(1, 1.5)
        return min(max(wait, failure.retry_after), self.patience.longest_wait)

    def _count(self, failure: RequestError) -> None:
        with self._lock:
            self.failures[str(failure)] += 1
            self._in_a_row += 1
            given_up = self._in_a_row >= self.patience.failures
        if given_up:
            self._stopped.set()
            raise EndpointError(
                f"got no reply from {self.endpoint.url} to {self.patience.failures} requests in a row, the last of "
                f"which {failure}; expected a judge that answers: is it running, and is its address right? Replies so "
                f"far are kept in {self.cache.file}"
            )
