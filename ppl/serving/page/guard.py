"""What Gradio's server offers beyond the page is closed: reading files by path, fetching from URLs, endless bodies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PATHS = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json")
_FOLDERS = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/")
_CALLS = tuple(
    f"/gradio_api/{name}"
    for name in (
        "app_id",
        "cancel",
        "info",
        "queue/data",
        "queue/join",
        "reset",
        "startup-events",
        "theme.css",
        "upload",
        "upload_progress",
    )
)
_UPLOAD = "/gradio_api/upload"
_LARGEST = 2**20
"""Bytes of a body that is no upload, and of what an upload has beside its files."""


class Guard:
    """Middleware around a mounted Gradio application.

    Gradio's queue takes files by path or URL, from anybody: it reads any file of the server's as long as an application
    was not started by `Blocks.launch`, and fetches URLs. Only what was uploaded is let through. It
    bounds the size of one file, but not the number of an upload's, nor any other body.

    Args:
        app: The application.
        uploads: Folder of uploaded files.
        max_bytes: Of one upload.
        max_total: Bytes that lie in the folder, beyond which nothing more is uploaded.
    """

    def __init__(self, app: ASGIApp, uploads: Path, max_bytes: int, max_total: int) -> None:
        self.app = app
        self.uploads = uploads.resolve()
        self.max_bytes = max_bytes
        self.max_total = max_total

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not (path in _PATHS or path.rstrip("/") in _CALLS or path.startswith(_FOLDERS)):
            await _refuse(404, "there is nothing here; the page is at /", scope, receive, send)
            return
        if path.rstrip("/") == _UPLOAD:
            size = dict(scope["headers"]).get(b"content-length", b"")
            if not size.isdigit() or int(size) > self.max_bytes + _LARGEST:
                told = f"got an upload of over {self.max_bytes} bytes, or of unknown length; send a smaller file"
                await _refuse(413, told, scope, receive, send)
                return
            if _size(self.uploads) + int(size) > self.max_total:
                await _refuse(
                    429, "there is no room for another upload; try again in ten minutes", scope, receive, send
                )
                return
        elif scope["method"] not in ("GET", "HEAD"):
            body = await _read(receive)
            if body is None or not self._is_harmless(body):
                await _refuse(400, "got values that the page does not send; reload it", scope, receive, send)
                return
            receive = _again(body, receive)
        await self.app(scope, receive, send)

    def _is_harmless(self, body: bytes) -> bool:
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            return False
        return all(self._is_uploaded(path) for path in _paths(values))

    def _is_uploaded(self, path: Any) -> bool:  # noqa: ANN401  JSON
        try:
            return isinstance(path, str) and Path(path).resolve().is_relative_to(self.uploads)
        except (OSError, ValueError):
            return False


def _paths(values: Any) -> Iterator[Any]:  # noqa: ANN401  JSON
    """What stands under the key that Gradio takes for a file's path, and under that for its URL."""
    if isinstance(values, dict):
        if "path" in values:
            yield values["path"]
        for each in values.values():
            yield from _paths(each)
    elif isinstance(values, list):
        for each in values:
            yield from _paths(each)


def _size(folder: Path) -> int:
    """Bytes of all files below."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # Gradio removes old ones meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


async def _read(receive: Receive) -> bytes | None:
    """A body; None: it is too large, or was broken off."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > _LARGEST:
            return None
        if not message.get("more_body", False):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Give the body once more, then whatever comes."""
    is_first = True

    async def once_more() -> Message:
        nonlocal is_first
        if is_first:
            is_first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return once_more


async def _refuse(status: int, text: str, scope: Scope, receive: Receive, send: Send) -> None:
    error = {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}}
    await JSONResponse(error, status)(scope, receive, send)
