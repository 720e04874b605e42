"""Merge square blocks of patches into one token of more channels (InternVL's "pixel shuffle"), and their relevance.

Axes: *b batch | t h w frames, rows, columns | H W the same, merged | c channels | k channels of a merged token.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ppl.functional.windows import Size3


def merged_size(size: Size3, block: int) -> Size3:
    """(t, h, w) after merging blocks of ``block`` x ``block`` patches.

    Raises:
        ValueError: If blocks do not tile the frame.
    """
    t, h, w = size
    if h % block or w % block:
        raise ValueError(
            f"got a grid of {h} x {w} patches, expected sides that divide by {block}: blocks of {block} x {block} "
            "patches become one token; pool to such a grid, or after merging (pool_site: pre_projector)"
        )
    return t, h // block, w // block


def space_to_depth(grid: Float[Tensor, "*b t h w c"], block: int) -> Float[Tensor, "*b t H W k"]:
    """Put the channels of each block's patches side by side, row by row; k = c x block².

    Args:
        grid: Patches.
        block: Side of a block; 1 changes nothing.

    Raises:
        ValueError: If blocks do not tile the frame.
    """
    if block == 1:
        return grid
    t, h, w = grid.shape[-4:-1]
    _, rows, columns = merged_size((t, h, w), block)
    blocks = grid.unflatten(-2, (columns, block)).unflatten(-4, (rows, block))
    return blocks.transpose(-4, -3).flatten(-3)


def merge_relevance(relevance: Float[Tensor, "*b t h w"], block: int) -> Float[Tensor, "*b t H W"]:
    """Give each block the relevance of its patches together: the logarithm of their summed exponentials.

    A softmax over the merged grid is then the softmax over patches, summed by block.

    Args:
        relevance: Logits of the prompt-to-patch similarity.
        block: Side of a block; 1 changes nothing.

    Raises:
        ValueError: If blocks do not tile the frame.
    """
    if block == 1:
        return relevance
    return torch.logsumexp(space_to_depth(relevance[..., None], block), dim=-1)
