"""What every pooler is: a function of a patch grid and its relevance, with a token count known beforehand.

Axes: *b none, or media of equal shape | t h w frames, rows, columns | c channels | n tokens that are left.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from ppl.batches import MediaKind
from ppl.functional.windows import Edges, Size3, output_size

Setting = TypeVar("Setting")


class Pooler(nn.Module, ABC):
    """Reduce the patch grid of one image or video to fewer tokens."""

    uses_relevance: bool = False
    """Whether `forward` reads its relevance; if not, the aligner is not run."""

    @abstractmethod
    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Pool one medium, or a stack of equal shapes; tokens of a grid come frame by frame, row by row."""

    @abstractmethod
    def output_grid(self, size: Size3, kind: MediaKind) -> Size3 | None:
        """(t, h, w) of the result for a grid of ``size``; None when the tokens form no grid."""

    @abstractmethod
    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """Tokens that `forward` leaves of a grid of ``size``; pure arithmetic."""


def by_kind(kind: MediaKind, video: Setting, image: Setting, multi_image: Setting | None) -> Setting:
    """Choose a setting for one kind of medium; several images fall back on what holds for one."""
    if kind == "video":
        return video
    return image if kind == "image" or multi_image is None else multi_image


def required(relevance: Float[Tensor, "*b t h w"] | None) -> Float[Tensor, "*b t h w"]:
    """Return the relevance.

    Raises:
        ValueError: There is none.
    """
    if relevance is None:
        msg = "got no relevance, expected one score per patch; give the model an aligner, or use the average pooler"
        raise ValueError(msg)
    return relevance


def check_views(name: str, kernel_size: Size3) -> None:
    """Refuse an image's window that spans several views.

    Raises:
        ValueError: Its first axis is not 1.
    """
    if kernel_size[0] != 1:
        msg = (
            f"got {name}={kernel_size}, expected 1 as its first: the views of a tiled image, or several images, are "
            "not frames, and are never merged"
        )
        raise ValueError(msg)


def check_least(least: int, what: str, **counts: int | None) -> None:
    """Refuse counts that are too small; those that are None fall back on others.

    Raises:
        ValueError: One is smaller than ``least``.
    """
    for name, value in counts.items():
        if value is not None and value < least:
            raise ValueError(f"got {name}={value}, expected {what}: use an integer >= {least}")


class WindowPooler(Pooler, ABC):
    """A pooler that turns each window of a regular 3-D grid into one token.

    Args:
        kernel_size: Window of a video, in (frames, rows, columns).
        stride: Step between windows of a video; null: the kernel size, so that windows tile the grid.
        image_kernel_size: Window of a single image.
        image_stride: Step between windows of a single image; null: its kernel size.
        multi_image_kernel_size: Window of each of several images; null: as for a single image.
        multi_image_stride: Step between windows of each of several images; null: their kernel size.
        edges: What becomes of patches that fill no last window: ``drop`` leaves them out (PPLLaVA), ``pad`` makes a
            smaller last window of them, ``error`` refuses the grid.

    Raises:
        ValueError: An image's window would merge its views.
    """

    def __init__(
        self,
        kernel_size: Size3 = (2, 3, 3),
        stride: Size3 | None = None,
        image_kernel_size: Size3 = (1, 3, 3),
        image_stride: Size3 | None = None,
        multi_image_kernel_size: Size3 | None = None,
        multi_image_stride: Size3 | None = None,
        edges: Edges = "drop",
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride or kernel_size
        self.image_kernel_size = image_kernel_size
        self.image_stride = image_stride or image_kernel_size
        self.multi_image_kernel_size = multi_image_kernel_size or image_kernel_size
        self.multi_image_stride = multi_image_stride or multi_image_kernel_size or self.image_stride
        self.edges: Edges = edges
        for name in ("image_kernel_size", "image_stride", "multi_image_kernel_size", "multi_image_stride"):
            check_views(name, getattr(self, name))

    def window(self, kind: MediaKind) -> tuple[Size3, Size3]:
        """Kernel size and stride for one kind of medium."""
        kernel_size = by_kind(kind, self.kernel_size, self.image_kernel_size, self.multi_image_kernel_size)
        return kernel_size, by_kind(kind, self.stride, self.image_stride, self.multi_image_stride)

    def output_grid(self, size: Size3, kind: MediaKind) -> Size3:
        """(t, h, w) of the pooled grid (Eq. 2).

        Raises:
            ValueError: The windows do not fit the grid.
        """
        return output_size(size, *self.window(kind), self.edges)

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """Windows in a grid of ``size``."""
        return math.prod(self.output_grid(size, kind))


class VideoPooler(Pooler, ABC):
    """A pooler with a way of its own for videos, whose result is no grid; images are pooled in windows.

    Args:
        images: Pools images.
    """

    def __init__(self, images: WindowPooler) -> None:
        super().__init__()
        self.images = images

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Pool one medium."""
        if kind != "video":
            return self.images(grid, relevance, kind)
        t, h, w = grid.shape[-4:-1]
        self.num_video_tokens((t, h, w))  # refuses in terms of the whole clip
        return self.pool_video(grid, relevance)

    def output_grid(self, size: Size3, kind: MediaKind) -> Size3 | None:
        """The windows of images; None for videos.

        Raises:
            ValueError: The windows do not fit the grid.
        """
        if kind != "video":
            return self.images.output_grid(size, kind)
        self.num_video_tokens(size)
        return None

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """Tokens of a video; windows of an image.

        Raises:
            ValueError: The windows do not fit the grid.
        """
        return self.num_video_tokens(size) if kind == "video" else self.images.num_tokens(size, kind)

    @abstractmethod
    def pool_video(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None
    ) -> Float[Tensor, "*b n c"]:
        """Pool one video, or a stack of equal shapes."""

    @abstractmethod
    def num_video_tokens(self, size: Size3) -> int:
        """Tokens that `pool_video` leaves of a grid of ``size``."""
