"""Clients' media on disk: in a private folder, each content once, for no longer than it is wanted."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import Protocol, runtime_checkable

_PREFIX = "ppl-serve-"
_BLOCK = 2**20


class FullStoreError(Exception):
    """There is no room for another file."""


@runtime_checkable
class Content(Protocol):
    """An open file."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As any file's."""
        ...

    def read(self, size: int = -1, /) -> bytes:
        """As any file's."""
        ...


@dataclass(frozen=True)
class Stored:
    """A file of the store."""

    path: Path
    num_bytes: int


@dataclass(frozen=True)
class Upload:
    """A file that a client may name by its id."""

    id: str
    name: str
    """What the client calls it."""
    file: Stored
    at: float
    """When it came, by the store's clock."""
    created: int
    """The same, in seconds of Unix time."""


class Store:
    """Files whose names come from their content, so that the same one sent twice is the same file.

    Its folder is only for the user that runs the server, and is removed by `close`; folders that servers left behind
    which were killed are removed when another one starts. Any thread may use it.

    Args:
        max_bytes: All files together.
        seconds: How long an upload is kept.
        parent: Where to make the folder; None: where temporary files belong.
        clock: Tells seconds.
    """

    def __init__(
        self, max_bytes: int, seconds: float, parent: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        where = parent or Path(tempfile.gettempdir())
        _remove_left_behind(where)
        self.folder, self._handle = _locked_folder(where)
        self.max_bytes = max_bytes
        self.seconds = seconds
        self.num_bytes = 0
        self._clock = clock
        self._lock = Lock()
        self._holds: Counter[Path] = Counter()
        self._uploads: OrderedDict[str, Upload] = OrderedDict()

    def temporary(self) -> BufferedRandom:
        """A file without a name, to collect what is to be kept."""
        return tempfile.TemporaryFile("w+b", dir=self.folder)

    def keep(self, content: Content) -> Stored:
        """Keep what is in a file, from its start; until `let_go`, once for each call.

        Raises:
            FullStoreError: There is no room for it.
        """
        size = content.seek(0, os.SEEK_END)
        with self._lock:
            self._make_room(size)
            self.num_bytes += size  # its room is taken while it is written
        written: Path | None = None
        try:
            handle, name = tempfile.mkstemp(dir=self.folder)
            written = Path(name)
            path = self.folder / _copy(content, handle, written)
        except BaseException:
            if written is not None:
                written.unlink(missing_ok=True)
            with self._lock:
                self.num_bytes -= size
            raise
        with self._lock:
            if self._holds[path]:
                written.unlink()
                self.num_bytes -= size
            else:
                written.rename(path)
            self._holds[path] += 1
        return Stored(path, size)

    def let_go(self, file: Stored) -> None:
        """Want a file no more."""
        with self._lock:
            self._release(file)

    def upload(self, name: str, content: Content) -> Upload:
        """Keep a file until it is deleted or too old, or others need its room.

        Raises:
            FullStoreError: There is no room for it.
        """
        self.sweep()
        upload = Upload(f"file-{token_hex(16)}", name, self.keep(content), self._clock(), int(time.time()))
        with self._lock:
            self._uploads[upload.id] = upload
        return upload

    def find(self, upload_id: str) -> Upload | None:
        """Look an upload up."""
        self.sweep()
        with self._lock:
            return self._uploads.get(upload_id)

    def hold(self, upload_id: str) -> Stored | None:
        """Keep an upload's file until `let_go`, whatever becomes of the upload."""
        self.sweep()
        with self._lock:
            upload = self._uploads.get(upload_id)
            if upload is None:
                return None
            self._holds[upload.file.path] += 1
            return upload.file

    def delete(self, upload_id: str) -> bool:
        """Forget an upload; false: there is none."""
        with self._lock:
            upload = self._uploads.pop(upload_id, None)
            if upload is not None:
                self._release(upload.file)
            return upload is not None

    def sweep(self) -> None:
        """Forget uploads that are too old."""
        with self._lock:
            while self._uploads and next(iter(self._uploads.values())).at <= self._clock() - self.seconds:
                self._release(self._uploads.popitem(last=False)[1].file)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            os.close(self._handle)

    def _make_room(self, size: int) -> None:
        while self._uploads and self.num_bytes + size > self.max_bytes:
            self._release(self._uploads.popitem(last=False)[1].file)
        if self.num_bytes + size > self.max_bytes:
            raise FullStoreError

    def _release(self, file: Stored) -> None:
        self._holds[file.path] -= 1
        if self._holds[file.path] == 0:
            del self._holds[file.path]
            file.path.unlink(missing_ok=True)
            self.num_bytes -= file.num_bytes


def _copy(content: Content, handle: int, path: Path) -> str:
    """Copy into an open file and give the digest, which the file's time of change says too.

    `ppl.datamodules.medium_files.file_key` tells large files apart by that time: a copy sent later is the same medium.
    """
    digest = hashlib.sha256()
    with open(handle, "wb") as file:
        content.seek(0)
        while block := content.read(_BLOCK):
            digest.update(block)
            file.write(block)
    told = int.from_bytes(digest.digest()[:7])  # below 2 ** 56 ns, which every file system can say
    os.utime(path, ns=(told, told))
    return digest.hexdigest()


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """Make a private folder, locked for as long as this process lives, however it ends."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another server is about to remove it, as it was not locked
            os.close(handle)
            continue
        if folder.is_dir():
            return folder, handle
        os.close(handle)


def _remove_left_behind(parent: Path) -> None:
    """Remove folders of ours that no living process has locked."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # gone already, or another user's
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
