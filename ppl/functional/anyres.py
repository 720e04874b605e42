"""Arithmetic of LLaVA-NeXT "anyres" tiling: which canvas an image gets and which tokens of it survive.

Axes: v views (the whole image, then its tiles row by row) | h w token rows, columns of one view | c channels
| n packed tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Region(NamedTuple):
    """A rectangle of a token grid."""

    top: int
    left: int
    height: int
    width: int


def best_resolution(image_size: tuple[int, int], pinpoints: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the canvas that keeps most of the image's pixels and, among equals, wastes the fewest of its own.

    Args:
        image_size: Upright (height, width) of the image in pixels.
        pinpoints: The (height, width) canvases to choose from; the first of equally good ones wins.
    """
    if not pinpoints:
        raise ValueError("pinpoints is empty, expected at least one (height, width) canvas; give the image one view")
    height, width = image_size
    _check_positive(image_size, "image_size")

    def fit(canvas: tuple[int, int]) -> tuple[int, int]:
        scale = min(canvas[1] / width, canvas[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - canvas[0] * canvas[1]

    best = max(pinpoints, key=fit)
    return best[0], best[1]


def unpadded_size(image_size: tuple[int, int], grid: tuple[int, int]) -> Region:
    """Find the part of an assembled grid of tiles that shows image rather than padding.

    Follows ``unpad_image`` of transformers' LLaVA-NeXT to the last rounding: padding is cut symmetrically, so one row
    (or column) of padding stays when an odd number was added.

    Args:
        image_size: Upright (height, width) of the image in pixels.
        grid: (rows, columns) of the assembled grid, in tokens.
    """
    _check_positive(image_size, "image_size")
    _check_positive(grid, "grid")
    (height, width), (rows, columns) = image_size, grid
    if width / height > columns / rows:
        filled = int(round(height * (columns / width), 7))
        top = (rows - filled) // 2
        return Region(top, 0, rows - 2 * top, columns)
    filled = int(round(width * (rows / height), 7))
    left = (columns - filled) // 2
    return Region(0, left, rows, columns - 2 * left)


def num_packed_tokens(h: int, w: int, image_size: tuple[int, int], tiles: tuple[int, int] | None) -> int:
    """Count the tokens ``pack_tiles`` makes of one image.

    Args:
        h: Token rows of one view.
        w: Token columns of one view.
        image_size: Upright (height, width) of the image in pixels.
        tiles: (rows, columns) of tiles on the canvas; None when the image has only its base view.
    """
    _check_positive((h, w), "(h, w)")
    if tiles is None:
        return h * w + 1
    region = unpadded_size(image_size, (tiles[0] * h, tiles[1] * w))
    return h * w + region.height * (region.width + 1)


def pack_tiles(
    views: Float[Tensor, "v h w c"],
    image_size: tuple[int, int],
    tiles: tuple[int, int] | None,
    newline: Float[Tensor, " c"],
) -> Float[Tensor, "n c"]:
    """Lay the tokens of an image out as one sequence.

    The base view comes first. Its tiles follow as one large grid: padding removed, read row by row, a newline after
    each row. An image that has no tiles is its base view and one newline.

    Args:
        views: Tokens of the base view, then of each tile, row by row.
        image_size: Upright (height, width) of the image in pixels.
        tiles: (rows, columns) of tiles on the canvas; ignored when there is only the base view.
        newline: The learned token that ends a row.
    """
    num_views, h, w, channels = views.shape
    newline = newline.to(views.dtype)
    base = views[0].reshape(h * w, channels)
    if num_views == 1:
        return torch.cat([base, newline[None]])
    if tiles is None or tiles[0] * tiles[1] != num_views - 1:
        raise ValueError(
            f"got {num_views} views and tiles={tiles}, expected 1 + rows x columns views; "
            f"pass the (rows, columns) the image was cut into"
        )
    rows, columns = tiles
    grid = views[1:].reshape(rows, columns, h, w, channels).transpose(1, 2).reshape(rows * h, columns * w, channels)
    top, left, height, width = unpadded_size(image_size, (rows * h, columns * w))
    grid = grid[top : top + height, left : left + width]
    grid = torch.cat([grid, newline.expand(height, 1, channels)], dim=1)
    return torch.cat([base, grid.flatten(0, 1)])


def _check_positive(sides: tuple[int, int], name: str) -> None:
    if min(sides) < 1:
        raise ValueError(f"{name}={tuple(sides)}, expected two sides of at least 1; check the order (height, width)")
