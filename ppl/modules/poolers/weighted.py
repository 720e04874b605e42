"""Prompt-guided weighted pooling: PPLLaVA's relevance map as a 3-D kernel (Eq. 3)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.pooling import Normalization, weighted_pool3d
from ppl.functional.windows import Edges, Size3
from ppl.modules.poolers.base import WindowPooler, required


class WeightedPooler(WindowPooler):
    """Sum each window's tokens, weighted by their relevance to the prompt.

    Args:
        kernel_size: Window of a video, in (frames, rows, columns); (2, 3, 3) keeps one token of 18.
        stride: Step between windows of a video; null: the kernel size.
        image_kernel_size: Window of a single image.
        image_stride: Step between windows of a single image; null: its kernel size.
        multi_image_kernel_size: Window of each of several images; null: as for a single image.
        multi_image_stride: Step between windows of each of several images; null: their kernel size.
        edges: What becomes of patches that fill no last window: ``drop``, ``pad`` or ``error``.
        normalization: ``eq3``: the paper's sum under one softmax over the whole clip, rescaled so that uniform
            relevance is average pooling; ``window``: a softmax in each window; ``official``: the released code's
            double softmax.
        temperature: Of the second softmax of ``official``; unused otherwise.
    """

    uses_relevance = True

    def __init__(
        self,
        kernel_size: Size3 = (2, 3, 3),
        stride: Size3 | None = None,
        image_kernel_size: Size3 = (1, 3, 3),
        image_stride: Size3 | None = None,
        multi_image_kernel_size: Size3 | None = None,
        multi_image_stride: Size3 | None = None,
        edges: Edges = "drop",
        normalization: Normalization = "eq3",
        temperature: float = 0.01,
    ) -> None:
        super().__init__(
            kernel_size, stride, image_kernel_size, image_stride, multi_image_kernel_size, multi_image_stride, edges
        )
        self.normalization: Normalization = normalization
        self.temperature = temperature

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Pool one medium by its relevance."""
        kernel_size, stride = self.window(kind)
        pooled = weighted_pool3d(
            grid,
            required(relevance),
            kernel_size=kernel_size,
            stride=stride,
            edges=self.edges,
            normalization=self.normalization,
            temperature=self.temperature,
        )
        return pooled.flatten(-4, -2)
