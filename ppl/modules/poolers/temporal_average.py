"""Temporal average pooling: one frame's worth of tokens, whatever the clip's length."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.pooling import average_pool3d
from ppl.functional.windows import Edges, Size3, output_size
from ppl.modules.poolers.base import Pooler, by_kind, check_views


class TemporalAveragePooler(Pooler):
    """Average each patch of a video over all frames: "Average Pooling", 576 tokens, of PPLLaVA's Table 3.

    Images have no time to average over; they are left as they are, or averaged over windows of their own.

    Args:
        image_kernel_size: Window, and step between windows, of a single image; (1, 1, 1) keeps every patch.
        multi_image_kernel_size: The same of each of several images; null: as for a single image.
        edges: What becomes of an image's patches that fill no last window: ``drop``, ``pad`` or ``error``.

    Raises:
        ValueError: An image's window would merge its views.
    """

    def __init__(
        self,
        image_kernel_size: Size3 = (1, 1, 1),
        multi_image_kernel_size: Size3 | None = None,
        edges: Edges = "drop",
    ) -> None:
        super().__init__()
        self.image_kernel_size = image_kernel_size
        self.multi_image_kernel_size = multi_image_kernel_size or image_kernel_size
        self.edges: Edges = edges
        for name in ("image_kernel_size", "multi_image_kernel_size"):
            check_views(name, getattr(self, name))

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Pool one medium, in fp32 at least; ``relevance`` is not read."""
        del relevance
        t, h, w = grid.shape[-4:-1]
        kernel_size = self._kernel_size((t, h, w), kind)
        return average_pool3d(grid, kernel_size=kernel_size, stride=kernel_size, edges=self.edges).flatten(-4, -2)

    def output_grid(self, size: Size3, kind: MediaKind) -> Size3:
        """One frame for a video; for images their windows.

        Raises:
            ValueError: The windows do not fit the grid.
        """
        kernel_size = self._kernel_size(size, kind)
        return output_size(size, kernel_size, kernel_size, self.edges)

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """Patches of one frame; for images their windows."""
        return math.prod(self.output_grid(size, kind))

    def _kernel_size(self, size: Size3, kind: MediaKind) -> Size3:
        return by_kind(kind, (size[0], 1, 1), self.image_kernel_size, self.multi_image_kernel_size)
