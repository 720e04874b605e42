"""One request to an endpoint that speaks OpenAI's chat completions (``POST …/chat/completions``)."""

from __future__ import annotations

import email.utils
import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import urlsplit

from ppl.evaluation.judge import Request

_PATH = "/chat/completions"
_PASSING = frozenset({408, 409, 425, 429})
"""Statuses below 500 after which the same request may succeed."""
_ALL_ALIKE = frozenset({401, 402, 403, 404, 405})
"""Statuses that say nothing about this request in particular."""
_PIECE = 1 << 16


class EndpointError(ValueError):
    """No request will be answered; the message says what to change."""


class RequestError(Exception):
    """One request was not answered."""

    def __init__(self, reason: str, *, passes: bool = True, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.passes = passes
        """Whether the same request may be answered later."""
        self.retry_after = retry_after
        """Seconds that the server asks to be left alone for."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers, and how it is asked.

    Raises:
        ValueError: The address is none.
    """

    url: str
    """``http://localhost:8000/v1``, with or without ``/chat/completions``."""
    model: str
    key: str | None = field(default=None, repr=False)
    """Sent to that address alone; never kept, and never shown."""
    temperature: float = 0.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            msg = f"got judge address {self.url!r}, expected one like http://localhost:8000/v1"
            raise ValueError(msg)

    @property
    def address(self) -> str:
        """Where requests are sent."""
        url = self.url.rstrip("/")
        return url if url.endswith(_PATH) else url + _PATH


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key is for the address that was given."""

    def redirect_request(self, req: object, fp: object, code: int, msg: str, headers: object, newurl: str) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def complete(endpoint: Endpoint, request: Request, timeout: float) -> str:
    """Get the reply to one request.

    Args:
        endpoint: Where it is sent.
        request: What is said.
        timeout: Seconds for all of it.

    Raises:
        RequestError: This request was not answered.
        EndpointError: No request will be.
    """
    turns = [{"role": "system", "content": request.system}] if request.system else []
    body = {
        "model": endpoint.model,
        "messages": [*turns, {"role": "user", "content": request.user}],
        "temperature": endpoint.temperature,
        "max_tokens": request.max_tokens,
    }
    headers = {"Content-Type": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    sent = urllib.request.Request(endpoint.address, json.dumps(body).encode(), headers, method="POST")
    try:
        received = _receive(sent, timeout)
    except urllib.error.HTTPError as error:
        with error:
            _refuse(endpoint, error)
    except TimeoutError as error:
        raise RequestError(f"took more than {timeout:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise RequestError(f"took more than {timeout:g} s") from error
        raise RequestError(f"broke off: {type(reason).__name__}") from error
    return _content(received)


def _receive(sent: urllib.request.Request, timeout: float) -> bytes:
    """Read a reply whole; the timeout of a socket alone bounds the silence between two bytes, not the whole."""
    end = time.monotonic() + timeout
    with _OPENER.open(sent, timeout=timeout) as response:
        pieces = []
        while piece := response.read1(_PIECE):
            pieces.append(piece)
            if time.monotonic() > end:
                raise TimeoutError
    return b"".join(pieces)


def _refuse(endpoint: Endpoint, error: urllib.error.HTTPError) -> NoReturn:
    said = _said(error)
    if error.code in _ALL_ALIKE or 300 <= error.code < 400:
        msg = (
            f"got status {error.code} from {endpoint.address} ({said}), expected a reply: are the judge's address, "
            f"model ({endpoint.model}) and key right?"
        )
        raise EndpointError(msg)
    passes = error.code >= 500 or error.code in _PASSING
    reason = f"got status {error.code}" if passes else f"got status {error.code} ({said})"
    raise RequestError(reason, passes=passes, retry_after=_retry_after(error.headers.get("Retry-After")))


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(300).decode(errors="replace").strip() or error.reason
    except (OSError, http.client.HTTPException):
        return str(error.reason)


def _retry_after(value: str | None) -> float:
    """Seconds, which the header gives as such or as a date (RFC 9110, section 10.2.3); 0 for none or nonsense."""
    if value is None:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _content(received: bytes) -> str:
    try:
        content = json.loads(received)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError) as error:
        raise RequestError("sent no chat completion") from error
    if not isinstance(content, str) or not content.strip():
        raise RequestError("sent an empty reply")
    return content
