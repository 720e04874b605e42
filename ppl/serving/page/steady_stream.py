"""One stream of events for as long as a visitor stays, so that no answer is lost between two of them."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PATH = "/gradio_api/queue/data"
_CLOSING = b'data: {"msg":"close_stream"'


class SteadyStream:
    """Middleware around a mounted Gradio application.

    Gradio ends a visitor's stream when nothing of theirs is pending, and its client opens another with the next event.
    An event that is sent while the end of the last is on its way falls between: the client takes the stream for open,
    nothing reads the answer, and the page, which waits for it, ignores the same key from then on. Here the stream does
    not end before the visitor leaves.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) != _PATH:
            await self.app(scope, receive, send)
            return
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        follower = _Follower(send)
        while follower.goes_on:
            follower.goes_on = False
            await self.app({**scope, "headers": plain}, receive, follower)


class _Follower:
    """Passes on what one stream after another says as if they were one, but not that one ends as nothing is pending."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.goes_on = True
        self._has_started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not self._has_started:
                await self.send(message)
            self._has_started = True
            return
        self.goes_on = self.goes_on or message.get("body", b"").startswith(_CLOSING)
        if not self.goes_on:
            await self.send(message)
