"""Keep the frozen vision tower's output, so that epochs, second questions and other runs do not compute it again.

Axes: t h w frames, rows, columns | c channels.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor


class FeatureCache:
    """Patch grids in host memory, and in a folder if one is given, by key.

    Runs that share a folder share what they compute: cells of an ablation, say. A file appears whole or not at all.

    Args:
        max_gib: Memory to use at most. Media that neither memory nor the folder holds, for want of room or because
            their values overflow ``dtype``, are encoded each time, and counted in ``num_refused``.
        dtype: Precision of what is kept.
        folder: Where to keep grids on disk as well; null: only in memory.
    """

    def __init__(self, max_gib: float = 1.0, dtype: torch.dtype = torch.float16, folder: str | None = None) -> None:
        self.max_bytes = int(max_gib * 2**30)
        self.dtype = dtype
        self.folder = Path(folder) if folder is not None else None
        self.num_bytes = 0
        self.num_refused = 0
        self._grids: dict[str, Tensor] = {}

    def get(self, key: str) -> Float[Tensor, "t h w c"] | None:
        """The grid kept under ``key``, in the cache's own precision."""
        if key in self._grids or not key or self.folder is None:
            return self._grids.get(key)
        file = self._file(self.folder, key)
        if not file.exists():
            return None
        grid = load_file(file)["grid"]
        self._remember(key, grid)
        return grid

    def put(self, key: str, grid: Float[Tensor, "t h w c"]) -> Float[Tensor, "t h w c"]:
        """Keep a grid, and return what `get` will: the first epoch sees the same rounding as the others.

        An empty key is never kept; what is not kept is returned as it came.
        """
        known = self.get(key)
        if not key or known is not None:
            return grid if known is None else known
        kept = grid.detach().to("cpu", self.dtype, copy=True)
        if not kept.isfinite().all():
            self.num_refused += 1
            return grid
        if self.folder is not None:
            file = self._file(self.folder, key)
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}.partial")
            save_file({"grid": kept.contiguous()}, partial)
            partial.replace(file)
        if not self._remember(key, kept) and self.folder is None:
            self.num_refused += 1
            return grid
        return kept

    def __len__(self) -> int:
        return len(self._grids)

    def _remember(self, key: str, grid: Tensor) -> bool:
        if self.num_bytes + grid.nbytes > self.max_bytes:
            return False
        self._grids[key] = grid
        self.num_bytes += grid.nbytes
        return True

    def _file(self, folder: Path, key: str) -> Path:
        digest = hashlib.sha256(f"{self.dtype}|{key}".encode()).hexdigest()
        return folder / digest[:2] / f"{digest}.safetensors"
