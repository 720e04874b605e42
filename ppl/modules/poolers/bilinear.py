"""Bilinear pooling: every frame made smaller, as LLaVA-NeXT-Video and LLaVA-OneVision do."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.resampling import bilinear_resize, bilinear_size
from ppl.functional.windows import Size3
from ppl.modules.poolers.base import Pooler, by_kind


class BilinearPooler(Pooler):
    """Resize every frame bilinearly (LLaVA-NeXT's ``mm_spatial_pool_mode: bilinear``); time is left as it is.

    Args:
        stride: Rows, and columns, of a video's frame that become one, rounded up: 2 makes 24 x 24 patches 12 x 12.
        image_stride: The same of each view of a single image; 1 keeps every patch.
        multi_image_stride: The same of each of several images; null: as for a single image.

    Raises:
        ValueError: A stride is smaller than 1.
    """

    def __init__(self, stride: int = 2, image_stride: int = 1, multi_image_stride: int | None = None) -> None:
        super().__init__()
        strides = {"stride": stride, "image_stride": image_stride, "multi_image_stride": multi_image_stride}
        for name, value in strides.items():
            if value is not None and value < 1:
                raise ValueError(f"got {name}={value}, expected rows that become one: use an integer >= 1; 1 keeps all")
        self.stride = stride
        self.image_stride = image_stride
        self.multi_image_stride = multi_image_stride

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Resize one medium; ``relevance`` is not read."""
        del relevance
        return bilinear_resize(grid, self._stride(kind)).flatten(-4, -2)

    def output_grid(self, size: Size3, kind: MediaKind) -> Size3:
        """(t, h, w) after resizing."""
        return bilinear_size(size, self._stride(kind))

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """Tokens after resizing."""
        return math.prod(self.output_grid(size, kind))

    def _stride(self, kind: MediaKind) -> int:
        return by_kind(kind, self.stride, self.image_stride, self.multi_image_stride)
