"""Token merging: patches that look alike become one token (ToMe; PPLLaVA, Table 5, last row)."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind
from ppl.functional.density import relevance_density
from ppl.functional.token_merging import cluster_means, cluster_tokens
from ppl.functional.windows import Size3
from ppl.modules.poolers.base import Pooler, by_kind, check_least, required


class TokenMergingPooler(Pooler):
    """Merge the most similar patches until a wanted number of tokens is left (Bolya et al. 2022, arXiv 2210.09461).

    A video's patches are merged in each frame until about twice the target is left, then across frames. The views of
    an image are never merged with one another. Tokens come in the order of each cluster's first patch.

    Args:
        target: Tokens of a video; one with fewer patches keeps them all.
        image_target: Tokens of each view of a single image.
        multi_image_target: Tokens of each of several images; null: as for a single image.
        guided: Weigh patches by their relevance (PPLLaVA's Eq. 3, a cluster in a window's place), and merge what the
            prompt asks about last; if not, clusters are averaged and no aligner is needed.
        protection: How much cosine similarity the largest relevance outweighs when a guided one chooses what to merge;
            0: none, 2: all there can be.

    Raises:
        ValueError: A target is smaller than 1, or the protection negative.
    """

    def __init__(
        self,
        target: int = 2048,
        image_target: int = 64,
        multi_image_target: int | None = None,
        guided: bool = False,
        protection: float = 2.0,
    ) -> None:
        super().__init__()
        targets = {"target": target, "image_target": image_target, "multi_image_target": multi_image_target}
        check_least(1, "tokens to keep", **targets)
        if protection < 0:
            raise ValueError(f"got protection={protection}, expected a number >= 0; 0 protects nothing")
        self.target = target
        self.image_target = image_target
        self.multi_image_target = multi_image_target
        self.uses_relevance = guided
        self.protection = protection

    def forward(
        self, grid: Float[Tensor, "*b t h w c"], relevance: Float[Tensor, "*b t h w"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n c"]:
        """Merge one medium; ``relevance`` is read if guided."""
        t, h, w = grid.shape[-4:-1]
        count = self.num_tokens((t, h, w), kind)
        per_frame = -(-2 * count // t) if kind == "video" else count // t
        density = relevance_density(required(relevance)) if self.uses_relevance else None
        clusters = cluster_tokens(grid, per_frame=per_frame, total=count, density=density, protection=self.protection)
        return cluster_means(grid.flatten(-4, -2), clusters, count, None if density is None else density.flatten(-3))

    def output_grid(self, size: Size3, kind: MediaKind) -> Size3 | None:
        """The grid itself if nothing is merged; otherwise none."""
        return size if self.num_tokens(size, kind) == math.prod(size) else None

    def num_tokens(self, size: Size3, kind: MediaKind) -> int:
        """The target, of a video or of each view, or what there is."""
        target = by_kind(kind, self.target, self.image_target, self.multi_image_target)
        t, h, w = size
        return min(target, t * h * w) if kind == "video" else t * min(target, h * w)
