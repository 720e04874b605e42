"""Average pooling: the baseline that does not read the prompt."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.pooling import average_pool3d
from ppl.modules.poolers.base import WindowPooler


class AveragePooler(WindowPooler):
    """Average each window's tokens."""

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Pool one medium; ``relevance`` is not read."""
        del relevance
        kernel_size, stride = self.window(kind)
        return average_pool3d(grid, kernel_size=kernel_size, stride=stride, edges=self.edges).flatten(-4, -2)
