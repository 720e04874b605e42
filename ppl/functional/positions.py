"""Position tables: a longer one for the text tower (PPLLaVA, Eq. 4), a 3-D one for patches.

Axes: l positions the table was trained for | L positions after stretching | t h w frames, rows, columns | d features.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ppl.functional.windows import Size3

Context = Literal["asymmetric", "uniform", "random_tail", "off"]
"""How a position table grows (PPLLaVA v2, section 3.2, "CLIP Context Extension"); all but ``off`` to the same length.

``asymmetric``: the first positions stay, the others are interpolated (`stretch_positions`); the paper's choice.
``uniform``: all are interpolated at one rate (`interpolate_positions`); no position but the first stays.
``random_tail``: all stay, random ones follow (`append_random_positions`).
``off``: the table stays as it is.
"""


def extend_positions(
    table: Float[Tensor, "l d"], context: Context = "asymmetric", *, keep: int = 20, rate: float = 0.25, seed: int = 0
) -> Float[Tensor, "L d"]:
    """Lengthen a position table in one of the ways the paper compares.

    Args:
        table: Learned embeddings, one per position.
        context: The way; see ``Context``.
        keep: Positions at the start that ``asymmetric`` keeps; with ``rate`` it sets the length of all.
        rate: Old positions per new position past ``keep``; one over an integer.
        seed: Of the positions that ``random_tail`` draws.

    Returns:
        A table of ``keep + (l - keep) / rate`` positions; of l, and the very same tensor, if ``off``.

    Raises:
        ValueError: If the way is unknown, or ``keep`` and ``rate`` do not fit the table.
    """
    if context not in get_args(Context):
        raise ValueError(f"context={context!r} is unknown: use one of {get_args(Context)}")
    if context == "off":
        return table
    stretched = stretch_positions(table, keep, rate)
    if context == "uniform":
        return interpolate_positions(table, len(stretched))
    if context == "random_tail":
        return append_random_positions(table, len(stretched), seed)
    return stretched


def stretch_positions(table: Float[Tensor, "l d"], keep: int = 20, rate: float = 0.25) -> Float[Tensor, "L d"]:
    """Lengthen a position table, leaving its well-trained start alone (PPLLaVA, Eq. 4).

    Past ``keep``, each step becomes 1 / ``rate`` linearly interpolated steps; the last step is extrapolated. With the
    defaults 77 positions (CLIP) become 248 and 64 (SigLIP) become 196, as in Long-CLIP.

    Args:
        table: Learned embeddings, one per position.
        keep: Positions at the start that stay as they are.
        rate: Old positions per new position past ``keep``; one over an integer.

    Returns:
        A table of ``keep + (l - keep) / rate`` positions.

    Raises:
        ValueError: If ``rate`` is not one over an integer, or ``keep`` leaves no position to stretch.
    """
    length = table.shape[0]
    steps = round(1 / rate) if rate > 0 else 0
    if steps < 1 or not math.isclose(steps * rate, 1):
        raise ValueError(f"rate={rate} is not one over an integer: use 1/2, 1/3, 1/4, ...")
    if length < 2 or not 0 <= keep < length:
        raise ValueError(
            f"keep={keep} does not fit a table of {length} positions: use 0 <= keep < {length}, {length} >= 2"
        )
    tail = table[keep:]
    following = torch.cat([tail[1:], 2 * table[-1:] - table[-2:-1]])
    fraction = torch.arange(steps, device=table.device, dtype=table.dtype) / steps
    stretched = torch.lerp(tail[:, None], following[:, None], fraction[:, None])
    return torch.cat([table[:keep], stretched.flatten(0, 1)])


def interpolate_positions(table: Float[Tensor, "l d"], length: int) -> Float[Tensor, "L d"]:
    """Spread a position table evenly over more positions (PPLLaVA, Eq. 4, at the one rate l / ``length``).

    Position i lies at j = i l / ``length`` of the old table, so the first stays where it is. Positions past the last
    old one are extrapolated from its last step, as in `stretch_positions`.

    Args:
        table: Learned embeddings, one per position.
        length: Positions of the result.

    Raises:
        ValueError: If ``length`` is less than the table's, or the table has no step to interpolate.
    """
    old = len(table)
    _check_longer(old, length)
    if old < 2:
        raise ValueError(f"got a table of {old} positions, expected at least 2 to interpolate between")
    extended = torch.cat([table, 2 * table[-1:] - table[-2:-1]])
    # In integers: i l / length in floating point may fall short of an old position.
    scaled = torch.arange(length, device=table.device) * old
    lower, fraction = scaled // length, (scaled % length).to(table.dtype) / length
    return torch.lerp(extended[lower], extended[lower + 1], fraction[:, None])


def append_random_positions(table: Float[Tensor, "l d"], length: int, seed: int = 0) -> Float[Tensor, "L d"]:
    """Leave a position table as it is and follow it by random positions: the baseline of PPLLaVA v2, section 3.2.

    Args:
        table: Learned embeddings, one per position.
        length: Positions of the result.
        seed: Of the random positions, which are the same on every device and whatever the global random state.

    Returns:
        The table, then rows of a normal distribution with mean 0 and the standard deviation of all its entries.

    Raises:
        ValueError: If ``length`` is less than the table's.
    """
    old, dim = table.shape
    _check_longer(old, length)
    tail = torch.randn(length - old, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    spread = table.detach().float().std(correction=0)
    return torch.cat([table, (tail.to(table.device) * spread).to(table.dtype)])


def _check_longer(old: int, length: int) -> None:
    if length < old:
        raise ValueError(f"length={length} is less than the table's {old} positions: a table only grows, use >= {old}")


def grid_positions(
    size: Size3, dim: int, *, max_half_waves: float = 16.0, device: torch.device | None = None
) -> Float[Tensor, "t h w d"]:
    """Describe where each patch lies by sines and cosines of its frame, row and column.

    Coordinates are cell centres between 0 and 1, so clips of different lengths and grids of different sizes share one
    frame of reference. Each axis gets ``dim // 6`` frequencies, geometric from one half wave over the axis (its cosine
    orders all cells) to ``max_half_waves``.

    Args:
        size: Patches along each axis.
        dim: Number of features; those beyond a multiple of 6 are zero.
        max_half_waves: Half waves of the highest frequency over an axis; keep it below the patches of an axis.
        device: Where to build the features.

    Returns:
        Features between -1 and 1, in fp32: sines then cosines of t, of h, of w, then zeros.

    Raises:
        ValueError: If there are too few features for one frequency, or an empty axis.
    """
    if dim < 6:
        raise ValueError(f"dim={dim} is too small: use at least 6, a sine and a cosine for each of (t, h, w)")
    if min(size) < 1:
        raise ValueError(f"size={size} has an axis smaller than 1: use integers >= 1 for (t, h, w)")
    frequencies = math.pi * torch.logspace(0, math.log10(max_half_waves), dim // 6, dtype=torch.float32, device=device)
    features = []
    for axis, extent in enumerate(size):
        centres = (torch.arange(extent, dtype=torch.float32, device=device) + 0.5) / extent
        angles = centres[:, None] * frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        shape = [extent if i == axis else 1 for i in range(3)]
        features.append(waves.view(*shape, -1).expand(*size, -1))
    return F.pad(torch.cat(features, dim=-1), (0, dim % 6))
