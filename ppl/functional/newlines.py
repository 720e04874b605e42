"""Put a learned newline token into the tokens of a video or image.

Axes: n tokens of a medium | m the same, newlines included | d channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ppl.functional.windows import Size3

Newlines = Literal["none", "end", "frame", "row"]
"""Where newlines stand: nowhere; once after the medium (LLaVA-OneVision); after each frame; after each row of each
frame (LLaVA-Video). LLaVA-NeXT's ``mm_newline_position`` calls them no_token, one_token, frame and grid."""


def add_newlines(
    tokens: Float[Tensor, "n d"], grid: Size3 | None, newline: Float[Tensor, " d"], where: Newlines
) -> Float[Tensor, "m d"]:
    """Put the newline token where it belongs.

    Args:
        tokens: Frame by frame, row by row.
        grid: (t, h, w) of the tokens; None if they form no grid: then rows and frames have no end to mark.
        newline: The learned token.
        where: Where newlines stand.
    """
    newline = newline.to(tokens.dtype)
    if where == "end":
        return torch.cat([tokens, newline[None]])
    length = _stretch(grid, where)
    if length is None:
        return tokens
    stretches = tokens.unflatten(0, (-1, length))
    return torch.cat([stretches, newline.expand(len(stretches), 1, -1)], dim=1).flatten(0, 1)


def num_with_newlines(n: int, grid: Size3 | None, where: Newlines) -> int:
    """Count the tokens that `add_newlines` makes of ``n``; arguments as there."""
    if where == "end":
        return n + 1
    length = _stretch(grid, where)
    return n if length is None else n + n // length


def _stretch(grid: Size3 | None, where: Newlines) -> int | None:
    """Tokens before each newline; None where there are none."""
    if grid is None or where == "none":
        return None
    return grid[2] if where == "row" else grid[1] * grid[2]
