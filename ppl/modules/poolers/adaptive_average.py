"""Adaptive average pooling: a fixed number of tokens, whatever the clip's size (PLLaVA)."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.resampling import adaptive_average_pool3d
from ppl.functional.windows import Size3
from ppl.modules.poolers.base import Pooler, by_kind


class AdaptiveAveragePooler(Pooler):
    """Average windows that cover the grid evenly: PLLaVA's pooling (arXiv 2404.16994), torch's ``AdaptiveAvgPool3d``.

    A grid smaller than the output is enlarged by repeating tokens.

    Args:
        output_size: Tokens along (frames, rows, columns) that a video becomes.
        image_output_size: Tokens along (rows, columns) that each view of a single image becomes.
        multi_image_output_size: The same of each of several images; null: as for a single image.

    Raises:
        ValueError: A size is smaller than 1.
    """

    def __init__(
        self,
        output_size: Size3 = (16, 12, 12),
        image_output_size: tuple[int, int] = (12, 12),
        multi_image_output_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.image_output_size = image_output_size
        self.multi_image_output_size = multi_image_output_size or image_output_size
        for name in ("output_size", "image_output_size", "multi_image_output_size"):
            size = getattr(self, name)
            if min(size) < 1:
                msg = f"got {name}={size}, expected integers >= 1: the tokens along each axis that are left"
                raise ValueError(msg)

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Pool one medium; ``relevance`` is not read."""
        del relevance
        t, h, w = grid.shape[-4:-1]
        return adaptive_average_pool3d(grid, self.output_grid((t, h, w), kind)).flatten(-4, -2)

    def output_grid(self, size: Size3, kind: MediaKind) -> Size3:
        """The size asked for; the views of images stay as many as they are."""
        views = size[0]
        return by_kind(kind, self.output_size, (views, *self.image_output_size), (views, *self.multi_image_output_size))

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """Tokens of the size asked for."""
        return math.prod(self.output_grid(size, kind))
