"""Keep the frozen vision tower's output, so that epochs and second questions do not run it again.

Axes: t h w frames, rows, columns | c channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class FeatureCache:
    """Patch grids in host memory, by medium.

    Args:
        max_gib: Memory to use at most; media beyond it are encoded each time, and counted in ``num_refused``.
        dtype: Precision of what is kept.
    """

    def __init__(self, max_gib: float = 1.0, dtype: torch.dtype = torch.float16) -> None:
        self.max_bytes = int(max_gib * 2**30)
        self.dtype = dtype
        self.num_bytes = 0
        self.num_refused = 0
        self._grids: dict[str, Tensor] = {}

    def get(self, key: str) -> Float[Tensor, "t h w c"] | None:
        """The grid kept under ``key``, in the cache's own precision."""
        return self._grids.get(key)

    def put(self, key: str, grid: Float[Tensor, "t h w c"]) -> None:
        """Keep a grid; an empty key is never kept."""
        if not key or key in self._grids:
            return
        kept = grid.detach().to("cpu", self.dtype, copy=True)
        if self.num_bytes + kept.nbytes > self.max_bytes:
            self.num_refused += 1
            return
        self._grids[key] = kept
        self.num_bytes += kept.nbytes

    def clear(self) -> None:
        """Forget everything, for example after new tower weights were loaded."""
        self._grids.clear()
        self.num_bytes = self.num_refused = 0

    def __len__(self) -> int:
        return len(self._grids)
