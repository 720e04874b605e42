"""Arithmetic of LLaVA-NeXT "anyres" tiling: which canvas an image gets and which tokens of it survive.

Axes: v views (the whole image, then its tiles row by row) | h w token rows, columns of one view | c channels
| n packed tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


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


def closest_aspect(image_size: tuple[int, int], size: int, canvases: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the canvas whose shape is most like the image's; among equals a larger one if the image can fill half.

    InternVL's choice, as in ``get_optimal_tiled_canvas`` of transformers' GOT-OCR2.

    Args:
        image_size: Upright (height, width) of the image in pixels.
        size: Side of a tile in pixels.
        canvases: The (height, width) canvases in pixels to choose from, small ones first.
    """
    if not canvases:
        raise ValueError("canvases is empty, expected at least one (height, width) canvas; give the image one view")
    _check_positive(image_size, "image_size")
    height, width = image_size
    best, least = canvases[0], float("inf")
    for canvas in canvases:
        difference = abs(width / height - (canvas[1] // size) / (canvas[0] // size))
        if difference < least or (difference == least and height * width > 0.5 * canvas[0] * canvas[1]):
            best, least = canvas, difference
    return best[0], best[1]


def aspect_canvases(size: int, min_tiles: int, max_tiles: int) -> list[tuple[int, int]]:
    """List every (height, width) canvas of so many tiles, small ones first, narrow before wide (InternVL's order).

    Args:
        size: Side of a tile in pixels.
        min_tiles: Fewest tiles.
        max_tiles: Most tiles.
    """
    if not 1 <= min_tiles <= max_tiles:
        raise ValueError(f"got min_tiles={min_tiles} and max_tiles={max_tiles}, expected 1 <= min_tiles <= max_tiles")
    sides = range(1, max_tiles + 1)
    shapes = [(rows, columns) for columns in sides for rows in sides if min_tiles <= rows * columns <= max_tiles]
    return [(rows * size, columns * size) for rows, columns in sorted(shapes, key=math.prod)]


def shrunk_size(grid: tuple[int, int], view_area: int, max_tiles: int | None) -> tuple[int, int]:
    """(rows, columns) of an assembled grid after LLaVA-OneVision's "anyres_max": about ``max_tiles`` views at most.

    Args:
        grid: (rows, columns) of the assembled grid without padding, in tokens.
        view_area: Tokens of one view.
        max_tiles: Views whose tokens may be kept; None keeps all. A tenth more (of a side) is let be.
    """
    if max_tiles is None:
        return grid
    ratio = math.sqrt(grid[0] * grid[1] / (max_tiles * view_area))
    if ratio <= 1.1:
        return grid
    return max(1, int(grid[0] // ratio)), max(1, int(grid[1] // ratio))


def num_packed_tokens(
    h: int, w: int, image_size: tuple[int, int], tiles: tuple[int, int] | None, max_tiles: int | None = None
) -> int:
    """Count the tokens ``pack_tiles`` makes of one image.

    Args:
        h: Token rows of one view.
        w: Token columns of one view.
        image_size: Upright (height, width) of the image in pixels.
        tiles: (rows, columns) of tiles on the canvas; None when the image has only its base view.
        max_tiles: Tiles whose tokens may be kept; see ``shrunk_size``.
    """
    _check_positive((h, w), "(h, w)")
    if tiles is None:
        return h * w + 1
    region = unpadded_size(image_size, (tiles[0] * h, tiles[1] * w))
    height, width = shrunk_size((region.height, region.width), h * w, max_tiles)
    return h * w + height * (width + 1)


def pack_tiles(
    views: Float[Tensor, "v h w c"],
    image_size: tuple[int, int],
    tiles: tuple[int, int] | None,
    newline: Float[Tensor, " c"],
    max_tiles: int | None = None,
) -> Float[Tensor, "n c"]:
    """Lay the tokens of an image out as one sequence.

    The base view comes first. Its tiles follow as one large grid: padding removed, shrunk if it is too large, read row
    by row, a newline after each row. An image that has no tiles is its base view and one newline.

    Args:
        views: Tokens of the base view, then of each tile, row by row.
        image_size: Upright (height, width) of the image in pixels.
        tiles: (rows, columns) of tiles on the canvas; ignored when there is only the base view.
        newline: The learned token that ends a row.
        max_tiles: Tiles whose tokens may be kept: larger grids are shrunk bilinearly to ``shrunk_size``.
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
    shrunk = shrunk_size((height, width), h * w, max_tiles)
    if shrunk != (height, width):
        wide = grid.to(torch.promote_types(grid.dtype, torch.float32)).permute(2, 0, 1)[None]
        grid = F.interpolate(wide, size=shrunk, mode="bilinear")[0].permute(1, 2, 0).to(views.dtype)
        height = shrunk[0]
    grid = torch.cat([grid, newline.expand(height, 1, channels)], dim=1)
    return torch.cat([base, grid.flatten(0, 1)])


def _check_positive(sides: tuple[int, int], name: str) -> None:
    if min(sides) < 1:
        raise ValueError(f"{name}={tuple(sides)}, expected two sides of at least 1; check the order (height, width)")
