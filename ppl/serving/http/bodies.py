"""Reading of request bodies: in size, time and memory bounded while they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import Request
from starlette.types import Message

from ppl.serving.http.errors import ApiError

Result = TypeVar("Result")

_AT_ONCE = 4
"""Largest bodies that may be in memory."""


class Bodies:
    """Reads bodies, all of them together in bounded memory.

    Args:
        max_bytes: Of one.
        seconds: To send one.
    """

    def __init__(self, max_bytes: int, seconds: float) -> None:
        self.max_bytes = max_bytes
        self.seconds = seconds
        self.num_bytes = 0
        """In memory."""

    @asynccontextmanager
    async def limited(self, request: Request) -> AsyncIterator[Request]:
        """Give the same request, whose body can be read only within the limits; it counts until the context ends.

        Raises:
            ApiError: It is too large, or one too many.
        """
        mine = 0

        async def receive() -> Message:
            nonlocal mine
            message = await request.receive()
            size = len(message.get("body", b""))
            mine += size
            self.num_bytes += size
            if mine > self.max_bytes:
                msg = (
                    f"got a body of over {self.max_bytes} bytes, expected at most so many; send less, or smaller media"
                )
                raise ApiError(413, msg)
            if self.num_bytes > _AT_ONCE * self.max_bytes:
                raise ApiError(429, "got more requests at once than there is memory for; try again", retry_after=1)
            return message

        try:
            yield Request(request.scope, receive)
        finally:
            self.num_bytes -= mine

    async def soon(self, read: Awaitable[Result]) -> Result:
        """Read, unless that takes too long.

        Raises:
            ApiError: It does.
        """
        try:
            async with asyncio.timeout(self.seconds):
                return await read
        except TimeoutError as error:
            raise ApiError(408, f"got no whole request within {self.seconds:g} s; send it faster") from error

    async def json(self, request: Request) -> bytes:
        """Read the body of a request that has to be JSON.

        Raises:
            ApiError: It says that it is something else, or is beyond the limits.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # which no page of another site can send without being asked
            raise ApiError(415, f"got content-type {kind[:40]!r}, expected application/json; set the header")
        return await self.soon(request.body())
