"""What every pooler is: a function of a patch grid and its relevance, with a token count known beforehand.

Axes: *b none, or media of equal shape | t h w frames, rows, columns | c channels | n tokens that are left.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from ppl.batches import MediaKind
from ppl.functional.windows import Size3, output_size


class Pooler(nn.Module, ABC):
    """Reduce the patch grid of one image or video to fewer tokens."""

    uses_relevance: bool = False
    """Whether `forward` reads its relevance; if not, the aligner is not run."""

    @abstractmethod
    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Pool one medium, or a stack of equal shapes; tokens come frame by frame, row by row."""

    @abstractmethod
    def output_grid(self, size: Size3, kind: MediaKind) -> Size3 | None:
        """(t, h, w) of the result for a grid of ``size``; None when the tokens form no grid."""

    @abstractmethod
    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """Tokens that `forward` leaves of a grid of ``size``; pure arithmetic."""


class WindowPooler(Pooler, ABC):
    """A pooler that turns each window of a regular 3-D grid into one token.

    Args:
        kernel_size: Window of a video, in (frames, rows, columns).
        stride: Step between windows of a video; null: the kernel size, so that windows tile the grid.
        image_kernel_size: Window of an image, alone or one of several.
        image_stride: Step between windows of an image; null: the image kernel size.

    Raises:
        ValueError: An image's window would merge its views.
    """

    def __init__(
        self,
        kernel_size: Size3 = (2, 3, 3),
        stride: Size3 | None = None,
        image_kernel_size: Size3 = (1, 3, 3),
        image_stride: Size3 | None = None,
    ) -> None:
        super().__init__()
        self._check_views(image_kernel_size, image_stride or image_kernel_size)
        self.kernel_size = kernel_size
        self.stride = stride or kernel_size
        self.image_kernel_size = image_kernel_size
        self.image_stride = image_stride or image_kernel_size

    @staticmethod
    def _check_views(kernel_size: Size3, stride: Size3) -> None:
        if kernel_size[0] != 1 or stride[0] != 1:
            msg = (
                f"got image_kernel_size={kernel_size} and image_stride={stride}, expected 1 as the first of each: "
                "the views of a tiled image are not frames, and are never merged"
            )
            raise ValueError(msg)

    def window(self, kind: MediaKind) -> tuple[Size3, Size3]:
        """Kernel size and stride for one kind of medium."""
        if kind == "video":
            return self.kernel_size, self.stride
        return self.image_kernel_size, self.image_stride

    def output_grid(self, size: Size3, kind: MediaKind) -> Size3:
        """(t, h, w) of the pooled grid (Eq. 2).

        Raises:
            ValueError: The kernel is larger than the grid.
        """
        return output_size(size, *self.window(kind))

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """Windows in a grid of ``size``."""
        return math.prod(self.output_grid(size, kind))
