"""From the URLs of a conversation to files that can be read."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.records import MediumRef
from ppl.serving.http.errors import ApiError
from ppl.serving.http.probing import Kind, check_medium
from ppl.serving.http.remote import Fetcher
from ppl.serving.http.settings import Settings
from ppl.serving.http.store import Content, FullStoreError, Store, Stored

Result = TypeVar("Result")


@dataclass
class Media:
    """The media of one request, which stay until they are let go."""

    store: Store
    refs: list[MediumRef] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """What the client calls the files, by their paths."""
    held: list[Stored] = field(default_factory=list)

    def let_go(self) -> None:
        """Want the files no more."""
        while self.held:
            self.store.let_go(self.held.pop())


class MediaIntake:
    """Finds, fetches and checks the media of requests.

    Args:
        settings: Where media may be.
        store: Where clients' media are put.
        threads: Read and write files, so that the thread of the connections does not.
        decoder: Of the engine; if it is guarded, its processes look at media first.
    """

    def __init__(self, settings: Settings, store: Store, threads: Executor, decoder: VideoDecoder) -> None:
        self.settings = settings
        self.store = store
        self.threads = threads
        self.decoder = decoder
        self.fetcher = Fetcher(settings.caps.body_bytes)

    async def take(self, media: Media, kind: Kind, url: str, name: str, num_frames: int | None) -> None:
        """Make a medium one of a request's.

        Args:
            media: Those of the request so far.
            kind: What the client says it is.
            url: Where it is.
            name: Its place in the request.
            num_frames: Frames to sample from a video; None: as in training.

        Raises:
            ApiError: It is not to be had, or is no such medium, or too large a one.
        """
        path = await self._path(media, kind, url, name)
        media.names[str(path)] = name
        await self._in_thread(partial(check_medium, self.decoder, kind, path, name, self.settings.caps))
        media.refs.append(MediumRef(kind, str(path), num_frames=num_frames if kind == "video" else None))

    async def _path(self, media: Media, kind: str, url: str, name: str) -> Path:
        scheme = url[:8].partition(":")[0].lower()
        if scheme == "file":
            return await self._in_thread(partial(self._under_root, url, name))
        if url.startswith("file-"):
            stored = self.store.hold(url)
            if stored is None:
                raise ApiError(404, "got an id of no upload, or of one that was removed; upload it again", name)
        elif scheme == "data":
            stored = await self._in_thread(lambda: self._keep(BytesIO(_decoded(url, kind, name))))
        elif scheme in ("http", "https") and self.settings.allow_remote:
            with self.store.temporary() as file:
                await self.fetcher.fetch(url, file, name)
                stored = await self._in_thread(partial(self._keep, file))
        else:
            raise ApiError(400, f"got a URL of {scheme[:8]!r}, expected {self._expected()}; upload the file", name)
        media.held.append(stored)
        return stored.path

    def _expected(self) -> str:
        places = ["data:", "the id of an upload"]
        if self.settings.media_root is not None:
            places.append("file://")
        if self.settings.allow_remote:
            places += ["http://", "https://"]
        return " or ".join(places)

    def _keep(self, content: Content) -> Stored:
        try:
            return self.store.keep(content)
        except FullStoreError as error:
            raise ApiError(429, "got more media than there is room for; try again", retry_after=5) from error

    def _under_root(self, url: str, name: str) -> Path:
        """A file under the root; of any other nothing is said, not even whether there is one."""
        root = self.settings.media_root
        refused = ApiError(400, "got a file that is not in the folder that this server offers; upload it instead", name)
        try:
            split = urlsplit(url)
            path = Path(unquote(split.path, errors="strict")).resolve(strict=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise refused from error
        if root is None or split.netloc not in ("", "localhost") or split.query or split.fragment:
            raise refused
        if not path.is_relative_to(root.resolve()) or not path.is_file():
            raise refused
        return path

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)


def _decoded(url: str, kind: str, name: str) -> bytes:
    """The bytes of a ``data:`` URL."""
    head, comma, data = url[5:].partition(",")
    said, *parameters = head.split(";")
    if not comma or "base64" not in parameters:
        raise ApiError(400, f"got a data URL without base64, expected data:{kind}/…;base64,…; encode the file", name)
    if said and not said.startswith((f"{kind}/", "application/octet-stream")):
        raise ApiError(400, f"got {said[:40]} in a part of type {kind}_url; change the part's type", name)
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, f"got a data URL that is not base64 ({error}); encode the file again", name) from error
