"""The file of a medium: its own, or for a while a copy of what lies inside another file or at a URL."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from ppl.datamodules.records import ByteRange, MediumRef, TableCell
from ppl.datamodules.storage import parquet, saved_dataset
from ppl.datamodules.storage.opening import is_url, open_bytes
from ppl.datamodules.storage.table_rows import cell_bytes

_NUM_BLOCKS, _BLOCK = 16, 2**20


@contextmanager
def local_file(ref: MediumRef) -> Iterator[tuple[Path, str]]:
    """Give a medium's path for the time of the context, and a digest of its content.

    Args:
        ref: An image or a video that is one file, wherever that is, or lies inside one.
    """
    if ref.inside is None and not is_url(ref.path):
        path = Path(ref.path).resolve()
        yield path, file_key(path) if path.exists() else str(path)  # readers tell best what is wrong with a path
        return
    found = _bytes(ref.path, ref.inside)
    if isinstance(found, str):
        yield Path(found), file_key(Path(found))
        return
    with tempfile.NamedTemporaryFile(prefix="ppl-") as file:
        file.write(found)
        file.flush()
        try:
            yield Path(file.name), hashlib.sha256(found).hexdigest()
        except Exception as error:  # of any kind: it goes on, and says what the copy was of
            error.add_note(f"{file.name} held {ref.inside or 'a copy'} of {ref.path}")
            raise


def file_key(path: Path) -> str:
    """A digest of a file's content, wherever it lies: the same for a copy, another after any change.

    Of a file of more than 16 MiB it takes the size, the time of the last change and 16 blocks of 1 MiB, the first and
    the last among them: then the cost does not grow with a video's length, and neither a change of the file nor, short
    of malice, another file goes unseen; only a copy with a new time counts as another file.

    Args:
        path: Of the file.
    """
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=2**16)
def _digest(path: Path, size: int, time: int) -> str:
    """Remembered for as long as size and time stay."""
    with path.open("rb") as file:
        if size <= _NUM_BLOCKS * _BLOCK:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(f"{size} {time}".encode())
        for number in range(_NUM_BLOCKS):
            file.seek((size - _BLOCK) * number // (_NUM_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
        return digest.hexdigest()


def _bytes(path: str, inside: ByteRange | TableCell | None) -> bytes | str:
    """The medium, or the path of the file that a table names instead."""
    if isinstance(inside, TableCell):
        is_file = inside.split is None and (is_url(path) or not Path(path).is_dir())
        return cell_bytes((parquet if is_file else saved_dataset).read_cell(path, inside), inside.item)
    with open_bytes(path) as file:
        if inside is None:
            return file.read()
        file.seek(inside.offset)
        found = file.read(inside.size)
    if len(found) < inside.size:
        msg = f"{path}: got {len(found)} of {inside.size} bytes at {inside.offset}, expected all; fetch the file again"
        raise ValueError(msg)
    return base64.b64decode(found) if inside.is_base64 else found
