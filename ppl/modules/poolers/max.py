"""Max pooling with the prompt as guide: the papers' "max pooling" (PPLLaVA, Table 5)."""

from __future__ import annotations

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.density import relevance_density
from ppl.functional.max_pooling import select_pool3d, weighted_max_pool3d
from ppl.functional.windows import Edges, Size3
from ppl.modules.poolers.base import WindowPooler, required

Mode = Literal["select", "elementwise"]


class MaxPooler(WindowPooler):
    """Keep of each window what is most relevant to the prompt.

    Args:
        kernel_size: Window of a video, in (frames, rows, columns); (2, 3, 3) keeps one token of 18.
        stride: Step between windows of a video; null: the kernel size.
        image_kernel_size: Window of a single image.
        image_stride: Step between windows of a single image; null: its kernel size.
        multi_image_kernel_size: Window of each of several images; null: as for a single image.
        multi_image_stride: Step between windows of each of several images; null: their kernel size.
        edges: What becomes of patches that fill no last window: ``drop``, ``pad`` or ``error``.
        mode: ``select``: the window's most relevant token, unchanged; ``elementwise``: each channel's maximum over the
            window's tokens times their relevance, rescaled so that uniform relevance is ordinary max pooling.

    Raises:
        ValueError: The mode is unknown, or an image's window would merge its views.
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
        mode: Mode = "select",
    ) -> None:
        super().__init__(
            kernel_size, stride, image_kernel_size, image_stride, multi_image_kernel_size, multi_image_stride, edges
        )
        if mode not in get_args(Mode):
            msg = f"mode={mode!r} is unknown: use one of {get_args(Mode)}"
            raise ValueError(msg)
        self.mode: Mode = mode

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Pool one medium by its relevance."""
        kernel_size, stride = self.window(kind)
        scores = required(relevance)
        if self.mode == "select":
            pooled = select_pool3d(grid, scores, kernel_size=kernel_size, stride=stride, edges=self.edges)
        else:
            density = relevance_density(scores)
            pooled = weighted_max_pool3d(grid, density, kernel_size=kernel_size, stride=stride, edges=self.edges)
        return pooled.flatten(-4, -2)
