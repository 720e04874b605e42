"""Run an application until it is told to end, and let it finish what it began."""

from __future__ import annotations

import asyncio
import errno
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ppl.serving.http.serving import Serving

_FLUSH_SECONDS = 5


def listen(host: str, port: int) -> socket.socket:
    """Take a port; 0: any free one.

    Raises:
        ValueError: It cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            msg = (
                f"got port {port} of {host}, which is taken; stop what listens there, or name another (0: any free one)"
            )
        else:
            msg = f"got host {host!r} and port {port}, where nothing can listen ({error.strerror}); name others"
        raise ValueError(msg) from error


def run_server(app: FastAPI, listener: socket.socket, drain_seconds: float = 30.0) -> None:
    """Serve until SIGTERM or SIGINT; then take nothing new, answer what is in line for so long, and end.

    A second signal cancels them; what the model is in the midst of, a step or a medium, ends first.

    Args:
        app: Of `ppl.serving.http.app.create_app`, with whatever is mounted in it.
        listener: Of `listen`.
        drain_seconds: How long answers may still take then; the rest is cancelled.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_FLUSH_SECONDS,
    )
    _Server(config, app.state.serving, drain_seconds).run([listener])


class _Server(uvicorn.Server):
    """Listens on while answers are finished, so that who asks meanwhile is told to ask elsewhere."""

    def __init__(self, config: uvicorn.Config, serving: Serving, drain_seconds: float) -> None:
        super().__init__(config)
        self.serving = serving
        self.drain_seconds = drain_seconds
        self._drained: asyncio.Future[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.serving.draining.is_set():
            self.should_exit = self.force_exit = True
        self.serving.draining.set()

    async def on_tick(self, counter: int) -> bool:
        if self.serving.draining.is_set() and (self._drained is None or self.force_exit):
            seconds = 0.0 if self.force_exit else self.drain_seconds  # the process does not end before its threads
            self._drained = asyncio.get_running_loop().run_in_executor(None, self.serving.engine.close, seconds)
        if self._drained is not None and self._drained.done():
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.serving.ended.set()
        await super().shutdown(sockets)
