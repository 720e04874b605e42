"""Prompt-guided weighted pooling: PPLLaVA's relevance map as a 3-D kernel (Eq. 3)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.pooling import Normalization, weighted_pool3d
from ppl.functional.windows import Size3
from ppl.modules.poolers.base import WindowPooler


class WeightedPooler(WindowPooler):
    """Sum each window's tokens, weighted by their relevance to the prompt.

    Args:
        kernel_size: Window of a video, in (frames, rows, columns); (2, 3, 3) keeps one token of 18.
        stride: Step between windows of a video; null: the kernel size.
        image_kernel_size: Window of an image, alone or one of several.
        image_stride: Step between windows of an image; null: the image kernel size.
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
        normalization: Normalization = "eq3",
        temperature: float = 0.01,
    ) -> None:
        super().__init__(kernel_size, stride, image_kernel_size, image_stride)
        self.normalization: Normalization = normalization
        self.temperature = temperature

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Pool one medium by its relevance."""
        if relevance is None:
            msg = "got no relevance, expected one score per patch; give the model an aligner, or use the average pooler"
            raise ValueError(msg)
        kernel_size, stride = self.window(kind)
        pooled = weighted_pool3d(
            grid,
            relevance,
            kernel_size=kernel_size,
            stride=stride,
            normalization=self.normalization,
            temperature=self.temperature,
        )
        return pooled.flatten(-4, -2)
