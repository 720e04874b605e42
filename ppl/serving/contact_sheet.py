"""Small pictures of frames in rows, each with the time at which it appears.

Axes: t frames | H W pixel rows, columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import UInt8
from PIL import Image, ImageDraw
from torch import Tensor

_HEIGHT = 128
_CAPTION = 16
_PER_ROW = 8


def contact_sheet(frames: UInt8[Tensor, "t 3 H W"], captions: Sequence[str]) -> Image.Image:
    """Put frames in rows of eight, a caption of a line under each.

    Args:
        frames: Upright.
        captions: One for each frame.
    """
    width = max(2, round(_HEIGHT * frames.shape[3] / frames.shape[2]))
    columns = min(_PER_ROW, len(frames))
    size = (columns * width, -(-len(frames) // columns) * (_HEIGHT + _CAPTION))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for index, (frame, caption) in enumerate(zip(frames.permute(0, 2, 3, 1).numpy(), captions, strict=True)):
        row, column = divmod(index, columns)
        left, top = column * width, row * (_HEIGHT + _CAPTION)
        sheet.paste(Image.fromarray(frame).resize((width, _HEIGHT), Image.Resampling.BICUBIC), (left, top))
        pen.text((left + 3, top + _HEIGHT + 2), caption, fill="black")
    return sheet


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Put pictures under each other."""
    size = (max(picture.width for picture in pictures), sum(picture.height for picture in pictures))
    sheet = Image.new("RGB", size, "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet
