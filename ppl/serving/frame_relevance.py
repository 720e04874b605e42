"""Relevance where it lies in a picture: of an image's views the whole one, of a square what it shows of the frame.

Axes: t h w views or frames, rows, columns of patches | f y x frames, rows and columns of cells of the whole frame.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ppl.batches import InputSpec, MediumInfo


def frame_relevance(relevance: Float[Tensor, "t h w"], medium: MediumInfo, inputs: InputSpec) -> Float[Tensor, "f y x"]:
    """Lay relevance of patches out as it lies over whole frames as decoded.

    Of a tiled image it is that of the view of the whole: first of LLaVA-NeXT's views, last of InternVL's. Bars beside a
    frame are cut off, and what was cut off a frame has none. Cells are as large as patches.

    Args:
        relevance: Of all patches; as they are spread (Eq. 1), say.
        medium: What the patches are of.
        inputs: The model's demands: how frames became squares.
    """
    pixels = inputs.pixels
    if medium.kind in pixels.tiled_kinds and inputs.image_grid_pinpoints:
        return relevance[:1] if pixels.tiling == "anyres" else relevance[-1:]
    mode = pixels.mode(medium.kind)
    if mode == "squash":
        return relevance
    height, width = medium.image_size
    side = max(height, width) if mode == "pad" else min(height, width)
    down, across = height / side, width / side  # of the frame, over those of the square
    rows, columns = (max(1, round(n * scale)) for n, scale in zip(relevance.shape[1:], (down, across), strict=True))
    towards_square = torch.tensor([[across, 0.0, 0.0], [0.0, down, 0.0]]).expand(len(relevance), 2, 3)
    places = F.affine_grid(towards_square, [len(relevance), 1, rows, columns], align_corners=False)
    return F.grid_sample(relevance[:, None], places.to(relevance), align_corners=False)[:, 0]
