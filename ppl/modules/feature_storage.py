"""Grids of features as they are kept, and the files they are kept in.

A file is safetensors, perhaps compressed as a whole, and holds its key and a checksum. It is written beside its place
and renamed: it appears whole or not at all.

Axes: t h w frames, rows, columns | c channels.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import time
import warnings
import zlib
from pathlib import Path
from typing import Literal

import torch
import zstandard
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from ppl.functional.int8 import dequantize, quantize

Storage = Literal["float16", "bfloat16", "float32", "int8"]
Compression = Literal["none", "zstd"]
Packed = dict[str, Tensor]
"""``grid``, and with int8 ``scale``."""

_ENDINGS: dict[Compression, str] = {"none": ".safetensors", "zstd": ".safetensors.zst"}
_PARTIAL = ".partial"
_ABANDONED = 3600.0
"""Seconds after which nobody is writing a file any more."""


def pack(grid: Float[Tensor, "t h w c"], storage: Storage) -> Packed | None:
    """Bring a grid to the precision it is kept in, as a copy on the CPU; None where values overflow it."""
    dtype = torch.float32 if storage == "int8" else getattr(torch, storage)
    kept = grid.detach().to("cpu", dtype, copy=True, memory_format=torch.contiguous_format)
    if not kept.isfinite().all():
        return None
    return {"grid": kept} if storage != "int8" else dict(zip(("grid", "scale"), quantize(kept), strict=True))


def unpack(packed: Packed) -> Float[Tensor, "t h w c"]:
    """The grid again: as it is kept, or from int8 in float32."""
    return dequantize(packed["grid"], packed["scale"]) if "scale" in packed else packed["grid"]


def packed_bytes(frames: int, rows: int, columns: int, channels: int, storage: Storage) -> int:
    """Bytes of a packed grid; a file adds a few hundred."""
    scales = 4 * channels if storage == "int8" else 0
    return frames * rows * columns * channels * getattr(torch, storage).itemsize + scales


class FeatureFolder:
    """Files of packed grids by key, for any number of processes at once.

    Args:
        folder: Made when it is first written to.
        storage: Precision; those of another are other files.
        compression: ``none``: a grid that is read stays pages of its file, which take no memory of their own.
    """

    def __init__(self, folder: str | Path, storage: Storage = "float16", compression: Compression = "none") -> None:
        self.folder = Path(folder)
        self.storage: Storage = storage
        self.compression: Compression = compression

    def file(self, key: str) -> Path:
        """Where a key's grid is, or would be."""
        digest = hashlib.sha256(f"{self.storage}|{key}".encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}{_ENDINGS[self.compression]}"

    def read(self, key: str) -> Packed | None:
        """Read a grid, or nothing: there is no file, or it is broken, which is said and ends the file."""
        file = self.file(key)
        try:
            while True:
                version = _version(file)
                found = self._read_once(file, key)
                if not isinstance(found, str):
                    return found
                if _version(file) == version:  # else another process has put a new one in its place, to be read next
                    return self._broken(file, found)
        except FileNotFoundError:
            return None

    def _read_once(self, file: Path, key: str) -> Packed | str:
        """Read a grid, or say what is wrong with its file."""
        try:
            tensors, told = _compressed(file) if self.compression == "zstd" else _mapped(file)
        except (SafetensorError, zstandard.ZstdError, ValueError, KeyError) as error:
            return str(error)
        if told != {"key": key, "checksum": _checksum(tensors)}:
            return f"its key or its checksum differs from what was written: {told}"
        return tensors

    def write(self, key: str, packed: Packed) -> None:
        """Write a file whole or not at all; of several processes that write one, the last one's stays.

        Raises:
            ValueError: The disk is full.
        """
        file = self.file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        data = save(packed, metadata={"key": key, "checksum": _checksum(packed)})
        if self.compression == "zstd":
            data = zstandard.ZstdCompressor(write_checksum=True).compress(data)
        handle, partial = tempfile.mkstemp(_PARTIAL, dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as opened:
                opened.write(data)
            Path(partial).replace(file)
        except BaseException as error:  # Ctrl-C too: it goes on, and leaves nothing unfinished behind
            Path(partial).unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                msg = (
                    f"got no space left for features in {self.folder}, expected {len(data)} bytes more: free some, set "
                    "cache.storage: int8, or name a folder on a larger disk; what is there stays good"
                )
                raise ValueError(msg) from error
            raise

    def num_bytes(self) -> int:
        """Add up the sizes of all files, of whatever key and precision."""
        return sum(file.stat().st_size for file in self.folder.glob("*/*.safetensors*"))

    def remove_abandoned(self) -> int:
        """Delete what processes left that were killed while writing, an hour ago or more; returns how many files."""
        old = [file for file in self.folder.glob(f"*/*{_PARTIAL}") if time.time() - file.stat().st_mtime > _ABANDONED]
        for file in old:
            file.unlink(missing_ok=True)
        return len(old)

    def _broken(self, file: Path, why: str) -> None:
        file.unlink(missing_ok=True)
        warnings.warn(f"{file} was broken ({why}); it is removed and its features are computed again", stacklevel=4)


def _mapped(file: Path) -> tuple[Packed, dict[str, str]]:
    with safe_open(file, "pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118  no dict


def _version(file: Path) -> tuple[int, int]:
    """Tell a file from another that takes its place."""
    stat = file.stat()
    return stat.st_ino, stat.st_mtime_ns


def _compressed(file: Path) -> tuple[Packed, dict[str, str]]:
    data = zstandard.ZstdDecompressor().decompress(file.read_bytes())
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return load(data), header["__metadata__"]


def _checksum(tensors: Packed) -> str:
    """CRC-32 of all that makes a grid: 4 GB/s, where the tower would take a thousand times as long."""
    total = 0
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy().data, total)
    return f"{total:08x}"
