"""Eight bits for a value, with one scale for each channel of a medium.

A vision tower's features have a few channels that are tens of times larger than the rest; a scale for each channel
keeps these from coarsening the others (for weights and activations of transformers: Dettmers et al. 2022,
arXiv:2208.07339, section 4).

Axes: g positions of a grid, any number of axes | c channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int8
from torch import Tensor

_LEVELS = 127
"""Symmetric: -128 is not used."""


def quantize(grid: Float[Tensor, "*g c"]) -> tuple[Int8[Tensor, "*g c"], Float[Tensor, " c"]]:
    """Round each value to the nearest of 255 multiples of its channel's scale, the channel's largest size / 127.

    Args:
        grid: Finite values.

    Returns:
        Multiples, and the scale of each channel in float32: `dequantize` is off by at most half a scale, which is
        1/254 of the channel's largest size, and by float32's rounding.
    """
    values = grid.float().flatten(0, -2)
    scale = (values.abs().amax(dim=0) / _LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
    return (values / scale).round().to(torch.int8).reshape(grid.shape), scale


def dequantize(multiples: Int8[Tensor, "*g c"], scale: Float[Tensor, " c"]) -> Float[Tensor, "*g c"]:
    """Give the values in float32."""
    return multiples * scale
