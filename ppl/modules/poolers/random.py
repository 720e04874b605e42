"""Random patches: the control that any choice has to beat."""

from __future__ import annotations

import math
from operator import index

import torch
from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.token_selection import random_places
from ppl.functional.windows import Size3
from ppl.modules.poolers.base import Pooler, by_kind, check_least


class RandomPooler(Pooler):
    """Keep random patches, the same ones of every medium of one size, frame by frame, row by row.

    Args:
        keep: Patches of a video; one with fewer keeps them all.
        image_keep: Patches of each view of a single image.
        multi_image_keep: Patches of each of several images; null: as for a single image.
        seed: Which patches; independent of the global generator and of the device.

    Raises:
        ValueError: A number of patches is smaller than 1.
    """

    def __init__(
        self, keep: int = 1024, image_keep: int = 64, multi_image_keep: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        check_least(1, "patches to keep", keep=keep, image_keep=image_keep, multi_image_keep=multi_image_keep)
        self.keep = keep
        self.image_keep = image_keep
        self.multi_image_keep = multi_image_keep
        self.seed = seed

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Keep patches of one medium; ``relevance`` is not read."""
        del relevance
        t, h, w = grid.shape[-4:-1]
        groups, size, kept = self._choose((t, h, w), kind)
        # index(): a graph compiled for any size has to settle on this one.
        places = random_places(index(groups), index(size), index(kept), self.seed)
        places = places + size * torch.arange(groups)[:, None]
        return grid.flatten(-4, -2).index_select(-2, places.flatten().to(grid.device))

    def output_grid(self, size: Size3, kind: MediaKind) -> Size3 | None:
        """The grid itself if every patch is kept; otherwise none."""
        return size if self.num_tokens(size, kind) == math.prod(size) else None

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """The number to keep, of a video or of each view, or what there is."""
        groups, _, kept = self._choose(size, kind)
        return groups * kept

    def _choose(self, size: Size3, kind: MediaKind) -> Size3:
        """Groups drawn from apart, their patches, and how many of those are kept."""
        t, h, w = size
        groups, patches = (1, t * h * w) if kind == "video" else (t, h * w)
        return groups, patches, min(by_kind(kind, self.keep, self.image_keep, self.multi_image_keep), patches)
