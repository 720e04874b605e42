"""Streams that last: no answer is lost between two of them, and they end in order with the server."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_EVENTS = "/gradio_api/queue/data"
_HEARTBEAT = "/gradio_api/heartbeat/"
_CLOSING = b'data: {"msg":"close_stream"'


class SteadyStream:
    """Middleware around a mounted Gradio application.

    Gradio ends a visitor's stream when nothing of theirs is pending, and its client opens another with the next event.
    An event that is sent while the end of the last is on its way falls between: the client takes the stream for open,
    nothing reads the answer, and the page, which waits for it, ignores the same key from then on. Here the stream does
    not end before the visitor leaves, or the server ends.

    Args:
        app: The application.
        ended: Set when the server ends.
    """

    def __init__(self, app: ASGIApp, ended: asyncio.Event) -> None:
        self.app = app
        self.ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        if path != _EVENTS and not path.startswith(_HEARTBEAT):
            await self.app(scope, receive, send)
            return
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        joined = _Joined(send)
        while joined.goes_on:
            joined.goes_on = False
            await self.app({**scope, "headers": plain}, self._until_the_end(receive), joined)
        if joined.is_open:  # the visitor left, which does no harm now, or the server ends
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _until_the_end(self, receive: Receive) -> Receive:
        async def either() -> Message:
            message, end = asyncio.ensure_future(receive()), asyncio.ensure_future(self.ended.wait())
            try:
                await asyncio.wait((message, end), return_when=asyncio.FIRST_COMPLETED)
                return message.result() if message.done() else {"type": "http.disconnect"}
            finally:
                message.cancel()
                end.cancel()

        return either


class _Joined:
    """Passes on what one stream after another says as if they were one, but not that one ends as nothing is pending."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.goes_on = True
        self.is_open = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not self.is_open:
                await self.send(message)
            self.is_open = True
            return
        self.goes_on = self.goes_on or message.get("body", b"").startswith(_CLOSING)
        if not self.goes_on:
            self.is_open = message.get("more_body", False)
            await self.send(message)
