"""Several window sizes at once: the papers' "multiple" rows (PPLLaVA, Table 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.multi_kernel import multi_kernel_pool3d
from ppl.functional.pooling import Normalization
from ppl.functional.windows import Edges, Size3, output_size
from ppl.modules.poolers.base import Pooler, by_kind, check_views, required


class Window(NamedTuple):
    """One size of windows; a named tuple, because jsonargparse cannot write a dataclass that is a default."""

    kernel_size: Size3
    """Tokens of a window, in (frames, rows, columns)."""
    stride: Size3 | None = None
    """Step between windows; null: the kernel size, so that windows tile the grid."""


class MultiKernelPooler(Pooler):
    """Pool a medium over windows of several sizes, by relevance, and keep all results in the order given.

    32 frames of 24 x 24 patches leave 1088 tokens both with (1, 6, 6) + (8, 2, 2) and with (4, 3, 3) + (2, 4, 4).

    Args:
        kernels: Windows of a video.
        image_kernels: Windows of a single image.
        multi_image_kernels: Windows of each of several images; null: as for a single image.
        normalization: How relevance becomes weights, as for `WeightedPooler`: ``eq3``, ``window`` or ``official``.
        edges: What becomes of patches that fill no last window: ``drop``, ``pad`` or ``error``.

    Raises:
        ValueError: There is no window, one is given twice, or an image's would merge its views.
    """

    uses_relevance = True

    def __init__(
        self,
        kernels: Sequence[Window] = (Window((1, 6, 6)), Window((8, 2, 2))),
        image_kernels: Sequence[Window] = (Window((1, 3, 3)),),
        multi_image_kernels: Sequence[Window] | None = None,
        normalization: Normalization = "eq3",
        edges: Edges = "drop",
    ) -> None:
        super().__init__()
        self.windows = distinct("kernels", kernels)
        self.image_windows = distinct("image_kernels", image_kernels)
        self.multi_image_windows = (
            None if multi_image_kernels is None else distinct("multi_image_kernels", multi_image_kernels)
        )
        for name, windows in (
            ("image_kernels", self.image_windows),
            ("multi_image_kernels", self.multi_image_windows or []),
        ):
            for kernel_size, stride in windows:
                check_views(f"kernel_size of {name}", kernel_size)
                check_views(f"stride of {name}", stride)
        self.normalization: Normalization = normalization
        self.edges: Edges = edges

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Pool one medium by its relevance; tokens come window size by window size, each frame by frame."""
        return multi_kernel_pool3d(
            grid,
            required(relevance),
            windows=self._windows(kind),
            edges=self.edges,
            normalization=self.normalization,
        )

    def output_grid(self, size: Size3, kind: MediaKind) -> Size3 | None:
        """(t, h, w) of the pooled grid if there is one window size; None if there are more.

        Raises:
            ValueError: Some windows do not fit the grid.
        """
        grids = [output_size(size, *window, self.edges) for window in self._windows(kind)]
        return grids[0] if len(grids) == 1 else None

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """Windows of all sizes in a grid of ``size``.

        Raises:
            ValueError: Some windows do not fit the grid.
        """
        return sum(math.prod(output_size(size, *window, self.edges)) for window in self._windows(kind))

    def _windows(self, kind: MediaKind) -> list[tuple[Size3, Size3]]:
        return by_kind(kind, self.windows, self.image_windows, self.multi_image_windows)


def distinct(name: str, kernels: Sequence[Window]) -> list[tuple[Size3, Size3]]:
    """Return kernel sizes and strides.

    Raises:
        ValueError: There are none, or two are the same.
    """
    windows = [(window.kernel_size, window.stride or window.kernel_size) for window in kernels]
    if not windows:
        msg = f"got no {name}, expected at least one: give a kernel_size"
        raise ValueError(msg)
    for i, window in enumerate(windows):
        if window in windows[:i]:
            msg = (
                f"got kernel_size={window[0]} at stride={window[1]} twice in {name}, expected different windows: the "
                "same tokens twice tell nothing new, so remove one"
            )
            raise ValueError(msg)
    return windows
