"""What every request goes through: the bearer token, an id, a count, and errors of ours that say nothing."""

from __future__ import annotations

import hmac
import logging
from secrets import token_hex

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ppl.serving.http.errors import ApiError
from ppl.serving.http.metrics import Metrics

_LOG = logging.getLogger(__name__)
_OPEN = "/health"
_GONE = 499
"""As nginx has it: who asked does not listen any more."""


class Access:
    """Middleware around all of a server.

    Args:
        app: The server.
        token: What clients have to send; None: nothing.
        metrics: Counts requests by status.
    """

    def __init__(self, app: ASGIApp, token: str | None, metrics: Metrics) -> None:
        self.app = app
        self.token = token
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or whatever else ASGI has."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            if self._may(scope):
                await self.app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        request_id, status = f"req-{token_hex(8)}", 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            if not self._may(scope):
                refused = ApiError(401, "got no or another API key, expected Authorization: Bearer KEY; send the key")
                await refused.response(scope, receive, send_with_id)
                return
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = _GONE
        except Exception:
            _LOG.exception("request %s", request_id)
            if status:  # half an answer is on its way: all that is left is to break it off
                raise
            failed = ApiError(500, f"internal error; the server's log tells more of request {request_id}")
            await failed.response(scope, receive, send_with_id)
        finally:
            self.metrics.requests.labels(_path(scope), status or _GONE).inc()

    def _may(self, scope: Scope) -> bool:
        if self.token is None or scope["path"] == _OPEN:
            return True
        kind, _, key = Request({**scope, "type": "http"}).headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(key.strip().encode("latin-1"), self.token.encode())


def _path(scope: Scope) -> str:
    """The route, so that what clients make up is not counted apart."""
    return getattr(scope.get("route"), "path", "other")
