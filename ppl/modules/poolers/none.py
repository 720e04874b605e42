"""No pooling: every patch of every frame, as the backbones do themselves."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.windows import Size3
from ppl.modules.poolers.base import Pooler


class NoPooler(Pooler):
    """Keep every token."""

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Flatten the grid; neither ``relevance`` nor ``kind`` is read."""
        del relevance, kind
        return grid.flatten(-4, -2)

    def output_grid(self, size: Size3, kind: MediaKind) -> Size3:
        """The grid itself."""
        del kind
        return size

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """Every patch."""
        del kind
        return math.prod(size)
