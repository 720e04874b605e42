"""Where on the way from patches to the language model tokens are pooled, and what that makes of their number.

Axes: *b none, or media of equal shape | t h w frames, rows, columns of patches | c vision channels
| d language channels | n tokens that are left.
"""

from __future__ import annotations

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from ppl.batches import MediaKind, MediumInfo
from ppl.functional.space_to_depth import merge_relevance, merged_size
from ppl.functional.windows import Size3
from ppl.modules.backbones.base import Backbone
from ppl.modules.poolers.base import Pooler

PoolSite = Literal["pre_shuffle", "pre_projector", "post_projector"]
"""``pre_shuffle``: patches, as the tower leaves them. ``pre_projector``: what the projector takes; for InternVL blocks
of patches ("pixel shuffle"), for the others the same. ``post_projector``: the language model's embeddings."""


def pool_and_project(
    backbone: Backbone,
    pooler: Pooler,
    site: PoolSite,
    grid: Float[Tensor, "*b t h w c"],
    relevance: Float[Tensor, "*b t h w"] | None,
    kind: MediaKind,
) -> Float[Tensor, "*b n d"]:
    """Pool patches of one medium, or of a stack of equal shapes, and project them.

    Raises:
        ValueError: Blocks of patches are to be merged, but the patches or pooled tokens form no grid of such blocks.
    """
    if site == "pre_shuffle":
        pooled = pooler(grid, relevance, kind).unflatten(-2, _grid_to_merge(pooler, grid.shape[-4:-1], kind))
        return backbone.project(backbone.pre_project(pooled)).flatten(-4, -2)
    merged = backbone.pre_project(grid)
    relevance = None if relevance is None else merge_relevance(relevance, backbone.spec.merge)
    if site == "post_projector":
        return pooler(backbone.project(merged), relevance, kind)
    return backbone.project(pooler(merged, relevance, kind))


def pooled_size(backbone: Backbone, pooler: Pooler, site: PoolSite, medium: MediumInfo) -> tuple[int, Size3 | None]:
    """Count what `pool_and_project` leaves of one medium, and give its (t, h, w) if it forms a grid.

    Raises:
        ValueError: As for `pool_and_project`.
    """
    size, merge = (medium.num_frames, *backbone.frame_size(medium.kind)), backbone.spec.merge
    if site == "pre_shuffle":
        merged = merged_size(_grid_to_merge(pooler, size, medium.kind), merge)
        return math.prod(merged), merged
    size = merged_size(size, merge)
    return pooler.num_tokens(size, medium.kind), pooler.output_grid(size, medium.kind)


def check_grid(backbone: Backbone, pooler: Pooler) -> None:
    """Refuse to pool frames that are no grid.

    Raises:
        ValueError: Class tokens are kept among patches, and the pooler does not leave those as they are.
    """
    for kind in backbone.spec.cls_kept:
        column = (1, *backbone.frame_size(kind))
        if not _leaves_alone(pooler, column, kind):
            msg = (
                f"got {type(pooler).__name__} for frames that keep their class token and so form no grid; expected "
                "video_class_token: drop on the backbone, or the pooler none"
            )
            raise ValueError(msg)


def _leaves_alone(pooler: Pooler, size: Size3, kind: MediaKind) -> bool:
    try:
        return pooler.output_grid(size, kind) == size
    except ValueError:  # its windows are larger
        return False


def _grid_to_merge(pooler: Pooler, size: tuple[int, ...], kind: MediaKind) -> Size3:
    t, h, w = size
    grid = pooler.output_grid((t, h, w), kind)
    if grid is None:
        msg = (
            f"got {type(pooler).__name__} at pool_site: pre_shuffle, whose tokens form no grid to merge blocks of; "
            "expected pool_site: pre_projector or post_projector"
        )
        raise ValueError(msg)
    return grid
