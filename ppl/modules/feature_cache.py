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
        max_gib: Memory to use at most; media beyond it, and those whose values overflow ``dtype``, are encoded each
            time, and counted in ``num_refused``.
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

    def put(self, key: str, grid: Float[Tensor, "t h w c"]) -> Float[Tensor, "t h w c"]:
        """Keep a grid, and return what `get` will: the first epoch sees the same rounding as the others.

        An empty key is never kept; what is not kept is returned as it came.
        """
        if not key or key in self._grids:
            return self._grids.get(key, grid)
        kept = grid.detach().to("cpu", self.dtype, copy=True)
        if self.num_bytes + kept.nbytes > self.max_bytes or not kept.isfinite().all():
            self.num_refused += 1
            return grid
        self._grids[key] = kept
        self.num_bytes += kept.nbytes
        return kept

    def __len__(self) -> int:
        return len(self._grids)
