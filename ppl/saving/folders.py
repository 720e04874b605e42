"""Sharded checkpoints, folders that all processes write together, that are whole or not there."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, ParallelStrategy, Strategy
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from ppl.saving.checkpoint_io import PARTIAL, check_room, damaged_entry, leaves, num_bytes, sync_folder
from ppl.saving.harmless import check_harmless

_OLD = ".checkpoint.old"
_OF_LIGHTNING = "meta.pt"


class VerifiedFolders(ParallelStrategy):
    """To be inherited before one of Lightning's sharding strategies; does for its folders what the file's IO does.

    A folder is written beside its place; each process reads its own tensors back and compares their checksums, the
    first one names and shapes; then it takes its place by renaming. Where an older folder has the same name, there
    are two renamings: a run killed between them leaves the older one as ``.checkpoint.old`` beside the new, whole
    ``.checkpoint.partial``.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write, verify and rename; files, which other settings of the strategies write, go through their own IO.

        Raises:
            OSError: There is no room for it; the same on every rank.
            ValueError: The disk gave back something else than what was written; the same on every rank.
        """
        if not _writes_folder(self):
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        target = Path(self.broadcast(str(filepath))).absolute()
        partial = target.with_name(PARTIAL)
        if self.is_global_zero:
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove(partial)
        self.barrier()
        self._check_room(checkpoint, target)
        shapes = {
            name: tuple(value.shape) for name, value in checkpoint["state_dict"].items() if hasattr(value, "shape")
        }
        try:
            super().save_checkpoint(checkpoint, partial, storage_options)
            self.barrier()
            _agree(self, _problem(partial, self.global_rank, shapes))
        except BaseException:  # Ctrl-C too: it goes on, and leaves nothing unfinished behind
            if self.is_global_zero:
                _remove(partial)
            raise
        if self.is_global_zero:
            _put_in_place(partial, target)
        self.barrier()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Go on from a folder or a file, once it has been seen to hold nothing that would run.

        Raises:
            ValueError: It holds more than tensors and plain values; the same on every rank.
        """
        path = Path(self.broadcast(str(checkpoint_path)))
        problem = None
        if self.is_global_zero:
            try:
                check_harmless(path)
            except (ValueError, OSError) as error:
                problem = error
        _agree(self, problem, "read")
        return super().load_checkpoint(path, weights_only=True if weights_only is None else weights_only)

    def _check_room(self, checkpoint: dict[str, Any], target: Path) -> None:
        own = torch.tensor(num_bytes(list(_local_tensors(checkpoint))), device=self.root_device)
        needed = int(self.reduce(own, reduce_op="sum"))  # pyright: ignore[reportArgumentType]
        problem = None
        if self.is_global_zero:
            try:
                check_room(target, needed)
            except OSError as error:
                problem = error
        _agree(self, problem)


def _agree(strategy: Strategy, problem: Exception | None, what: str = "save") -> None:
    """Raise on every rank if one has a problem."""
    if strategy.reduce_boolean_decision(problem is not None, all=False):
        raise problem or ValueError(f"another process could not {what} a checkpoint; its message says why")


def _writes_folder(strategy: Strategy) -> bool:
    if isinstance(strategy, FSDPStrategy):
        return strategy._state_dict_type == "sharded"
    return isinstance(strategy, ModelParallelStrategy) and strategy._save_distributed_checkpoint


def _local_tensors(checkpoint: dict[str, Any]) -> Iterator[Tensor]:
    """What this process holds of every tensor."""
    for _, leaf in leaves(checkpoint):
        if isinstance(leaf, DTensor):
            yield leaf.to_local()
        elif hasattr(leaf, "local_shards"):  # FSDP1's own
            yield from (shard.tensor for shard in leaf.local_shards())  # pyright: ignore[reportAttributeAccessIssue]
        elif isinstance(leaf, Tensor):
            yield leaf


def _problem(folder: Path, rank: int, shapes: dict[str, tuple[int, ...]]) -> ValueError | None:
    """What is wrong with this process's share of a folder."""
    metadata = FileSystemReader(folder).read_metadata()
    damaged = [
        f"{each.fqn} in {stored.relative_path}"
        for each, stored in (metadata.storage_data or {}).items()
        if stored.relative_path.startswith(f"__{rank}_") and _is_damaged(folder, stored)
    ]
    if rank == 0:
        kept = {name.partition(".")[2]: each for name, each in metadata.state_dict_metadata.items()}
        sizes = {name: tuple(each.size) for name, each in kept.items() if isinstance(each, TensorStorageMetadata)}
        damaged += [name for name, shape in shapes.items() if sizes.get(name) != shape]
        with (folder / _OF_LIGHTNING).open("rb") as file:
            os.fsync(file.fileno())
            damaged += [_OF_LIGHTNING] if damaged_entry(file) is not None else []
    if not damaged:
        return None
    return ValueError(
        f"got other values of {', '.join(damaged[:5])} when reading back a checkpoint from {folder.parent}, expected "
        "what was written; it was removed and older checkpoints are whole. Look at the disk before going on"
    )


def _is_damaged(folder: Path, stored: Any) -> bool:  # noqa: ANN401  torch does not export its type
    with (folder / stored.relative_path).open("rb") as file:
        file.seek(stored.offset)
        content = BytesIO(file.read(stored.length))  # a file of torch.save for each tensor
    try:
        return damaged_entry(content) is not None
    except zipfile.BadZipFile:
        return True


def _put_in_place(partial: Path, target: Path) -> None:
    old = target.with_name(_OLD)
    if target.exists():
        _remove(old)
        target.rename(old)
    partial.rename(target)
    sync_folder(target.parent)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
