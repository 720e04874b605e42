"""Keep the most relevant patches whole and pool the rest."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.token_selection import keep_and_pool
from ppl.functional.windows import Edges, Size3, output_size
from ppl.modules.poolers.base import Pooler, by_kind, check_least, check_views, required


class TopKPooler(Pooler):
    """Keep the k most relevant patches of a clip as they are; weigh the others by relevance in each window.

    The kept patches come first, then the windows, both frame by frame, row by row. Windows pool the patches that are
    not kept, weighed among themselves; one whose patches are all kept is their plain mean. A kept patch trains
    the aligner as if it were multiplied by its probability.

    Args:
        k: Patches of a video to keep; 0: none.
        image_k: Patches of an image to keep, over all its views.
        multi_image_k: The same of each of several images; null: as for a single image.
        kernel_size: Window of a video, in (frames, rows, columns), and its stride.
        image_kernel_size: Window of a single image.
        multi_image_kernel_size: Window of each of several images; null: as for a single image.
        edges: What becomes of patches that fill no last window: ``drop``, ``pad`` or ``error``; any may be kept.

    Raises:
        ValueError: A number of patches is negative, or an image's window would merge its views.
    """

    uses_relevance = True

    def __init__(
        self,
        k: int = 256,
        image_k: int = 32,
        multi_image_k: int | None = None,
        kernel_size: Size3 = (2, 3, 3),
        image_kernel_size: Size3 = (1, 3, 3),
        multi_image_kernel_size: Size3 | None = None,
        edges: Edges = "drop",
    ) -> None:
        super().__init__()
        check_least(0, "patches to keep", k=k, image_k=image_k, multi_image_k=multi_image_k)
        self.k = k
        self.image_k = image_k
        self.multi_image_k = multi_image_k
        self.kernel_size = kernel_size
        self.image_kernel_size = image_kernel_size
        self.multi_image_kernel_size = multi_image_kernel_size or image_kernel_size
        self.edges: Edges = edges
        for name in ("image_kernel_size", "multi_image_kernel_size"):
            check_views(name, getattr(self, name))

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Keep and pool one medium by its relevance."""
        t, h, w = grid.shape[-4:-1]
        kept, kernel_size = self._choose((t, h, w), kind)
        return keep_and_pool(grid, required(relevance), kept, kernel_size=kernel_size, edges=self.edges)

    def output_grid(self, size: Size3, kind: MediaKind) -> None:
        """None: kept patches have left the grid.

        Raises:
            ValueError: The windows do not fit the grid.
        """
        self.num_tokens(size, kind)

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """Patches kept and windows.

        Raises:
            ValueError: The windows do not fit the grid.
        """
        kept, kernel_size = self._choose(size, kind)
        return kept + math.prod(output_size(size, kernel_size, kernel_size, self.edges))

    def _choose(self, size: Size3, kind: MediaKind) -> tuple[int, Size3]:
        kernel_size = by_kind(kind, self.kernel_size, self.image_kernel_size, self.multi_image_kernel_size)
        return min(by_kind(kind, self.k, self.image_k, self.multi_image_k), math.prod(size)), kernel_size
