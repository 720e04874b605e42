"""Checkpoints that are whole or not there: room is looked for first, what was written is read back, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.cloud_io import _is_local_file_protocol
from lightning.pytorch.plugins.io import AsyncCheckpointIO, CheckpointIO, TorchCheckpointIO
from torch import Tensor

PARTIAL = ".checkpoint.partial"
"""What is being written; the next checkpoint of the folder overwrites what a killed run left of it."""
_SPARE = 1.02, 32 << 20
"""Factor, and bytes more, of what tensors do not account for: names, loops, the recipe."""


class VerifiedCheckpointIO(TorchCheckpointIO):
    """Write checkpoints of one file so that no failure costs an older one.

    A checkpoint is written beside its place, synced, read back from the disk (the checksum of every tensor, names,
    shapes and types), and only then renamed into its place. `ModelCheckpoint` removes older ones after that. Paths that
    are not local (``s3://...``) are Lightning's business.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write, verify and rename.

        Raises:
            OSError: There is no room for it, or writing failed; what was at ``path`` is whole.
            ValueError: The disk gave back something else than what was written; what was at ``path`` is whole.
        """
        if storage_options is not None or not _is_local_file_protocol(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path).absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(PARTIAL)
        partial.unlink(missing_ok=True)
        check_room(target, num_bytes(checkpoint))
        try:
            _write(checkpoint, partial)
            _verify(checkpoint, partial)
            partial.replace(target)
        except BaseException:  # Ctrl-C too: it goes on, and leaves nothing unfinished behind
            partial.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read tensors and plain values, from other machines too, where Lightning would run whatever the file says."""
        return super().load_checkpoint(path, map_location, weights_only=True if weights_only is None else weights_only)


class BackgroundCheckpointIO(AsyncCheckpointIO):
    """Do the same on a thread, from a copy in the host's memory, while training goes on.

    A checkpoint that could not be written is an error at the next one, or at the run's end; older ones then stay.
    """

    @property
    def checkpoint_io(self) -> CheckpointIO:
        """What writes."""
        return self._verified

    @checkpoint_io.setter
    def checkpoint_io(self, checkpoint_io: CheckpointIO | None) -> None:
        """Keep what writes: Lightning's strategies put their own in its place."""
        self._verified = VerifiedCheckpointIO()

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove it when what was saved before has been verified."""
        self._ensure_setup()
        assert self._executor is not None
        self._executor.submit(self._remove_unless_failed, path)

    def _remove_unless_failed(self, path: str | Path) -> None:
        if self._error is None:
            self._verified.remove_checkpoint(path)


def check_room(target: Path, needed: int) -> None:
    """Make sure that a checkpoint fits beside those that are there.

    Raises:
        OSError: It does not.
    """
    free = shutil.disk_usage(target.parent).free
    factor, spare = _SPARE
    needed = int(needed * factor) + spare
    if free < needed:
        msg = (
            f"got {free / 2**30:.2f} GiB free in {target.parent}, expected {needed / 2**30:.2f} for {target.name}; "
            "nothing was written and older checkpoints are whole. Make room, put ModelCheckpoint's dirpath on a larger "
            "disk, or keep fewer (save_top_k)"
        )
        raise OSError(errno.ENOSPC, msg)


def num_bytes(tree: object) -> int:
    """Bytes of the tensors in nested dictionaries and lists; tensors that share memory count once, as on disk."""
    storages = (leaf.untyped_storage() for _, leaf in leaves(tree) if isinstance(leaf, Tensor))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def leaves(tree: object, name: str = "") -> Iterator[tuple[str, object]]:
    """The values in nested dictionaries and lists, each with its place."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{name}.{key}")
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{name}.{index}")
    else:
        yield name, tree


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's names."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damaged_entry(file: Any) -> str | None:  # noqa: ANN401  a path or a binary file
    """The first entry of a file of `torch.save` whose checksum (CRC-32) is wrong; None if all are right.

    Raises:
        zipfile.BadZipFile: It is no such file, or is cut off.
    """
    with zipfile.ZipFile(file) as archive:
        return archive.testzip()


def _write(checkpoint: dict[str, Any], partial: Path) -> None:
    try:
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch.save says RuntimeError where the file said OSError
        msg = f"could not write a checkpoint into {partial.parent} ({error}); older checkpoints are whole. Is it full?"
        raise OSError(errno.EIO, msg) from error


def _verify(checkpoint: dict[str, Any], partial: Path) -> None:
    _forget_cached(partial)
    try:
        damaged = damaged_entry(partial)
    except (zipfile.BadZipFile, OSError) as error:
        damaged = str(error)
    differences: list[str] = []
    if damaged is None:
        # What this process has just written, checked bit by bit: it may hold live modules, if not made by the CLI.
        written = torch.load(partial, map_location="cpu", mmap=True, weights_only=False)
        expected, got = _description(checkpoint), _description(written)
        differences = [name for name in {**expected, **got} if expected.get(name) != got.get(name)]
    if damaged is not None or differences:
        what = f"{damaged} is damaged" if damaged is not None else f"other values of {', '.join(differences[:5])}"
        msg = (
            f"got {what} when reading back a checkpoint from {partial.parent}, expected what was written; it was "
            "removed and older checkpoints are whole. Look at the disk before going on"
        )
        raise ValueError(msg)


def _forget_cached(path: Path) -> None:
    """Ask the kernel to drop its copy, so that reading comes from the disk."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _description(tree: object) -> dict[str, object]:
    """Shape and type of every tensor, and the type of every other value, by its place."""
    return {
        name: (tuple(leaf.shape), leaf.dtype) if isinstance(leaf, Tensor) else type(leaf).__qualname__
        for name, leaf in leaves(tree)
    }
