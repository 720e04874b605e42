"""An answer sent piece by piece, to a client that may be slow, or gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send


class EventStream(Response):
    """Server-sent events.

    Args:
        events: What to send.
        stall_seconds: How long the client may leave an event unread.
        end: Called in the end, however that comes.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], stall_seconds: float, end: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self.events = events
        self.stall_seconds = stall_seconds
        self.end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events.

        Raises:
            TimeoutError: One was left unread: the server closes the connection.
        """

        async def send_soon(message: Message) -> None:
            async with asyncio.timeout(self.stall_seconds):
                await send(message)

        try:
            await send_soon({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in self.events:
                await send_soon({"type": "http.response.body", "body": event, "more_body": True})
            await send_soon({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.end()
