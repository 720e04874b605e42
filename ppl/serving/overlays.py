"""Pictures of relevance: frames with colours laid over them, and sheets of such frames under their questions.

Axes: t frames | h w patch rows, columns | H W pixel rows, columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

_FRAME_HEIGHT = 192
_CAPTION_HEIGHT = 22
"""Of a caption of one line, in pixels; further lines take ``_LINE_HEIGHT`` each."""
_LINE_HEIGHT = 14
_MARGIN = 4
_PER_ROW = 8


def heatmap_strip(frames: UInt8[Tensor, "t 3 H W"], relevance: Float[Tensor, "t h w"], question: str) -> Image.Image:
    """Lay relevance over frames, eight in a row, all on one scale: the most relevant patch is the brightest."""
    heat = overlay(frames, relevance)
    columns = min(_PER_ROW, len(heat))
    rows = -(-len(heat) // columns)
    width = _shown_width(frames)
    caption = _caption(question, columns * width)
    sheet = Image.new("RGB", (columns * width, caption.height + rows * _FRAME_HEIGHT), "white")
    sheet.paste(caption)
    pen = ImageDraw.Draw(sheet)
    for index, frame in enumerate(heat):
        row, column = divmod(index, columns)
        corner = (column * width, caption.height + row * _FRAME_HEIGHT)
        sheet.paste(_resized(frame, width, _FRAME_HEIGHT), corner)
        pen.rectangle((*corner, corner[0] + width - 1, corner[1] + _FRAME_HEIGHT - 1), outline="white")
        pen.text((corner[0] + _MARGIN, corner[1] + 3), str(index + 1), fill="white")
    return sheet


def heatmap_sheet(
    frames: UInt8[Tensor, "t 3 H W"], relevances: Sequence[Float[Tensor, "t h w"]], questions: Sequence[str]
) -> Image.Image:
    """Stack one strip per question (PPLLaVA, Fig. 5); each question has a scale of its own."""
    strips = [heatmap_strip(frames, *pair) for pair in zip(relevances, questions, strict=True)]
    sheet = Image.new("RGB", (strips[0].width, sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def heatmap_pictures(
    frames: UInt8[Tensor, "t 3 H W"], relevances: Sequence[Float[Tensor, "t h w"]], questions: Sequence[str]
) -> Iterator[Image.Image]:
    """Yield one picture per frame, for an animation: the frame at half size, then a column per question.

    Captions stand above their columns; all pictures have one size, with even sides, as video codecs demand. A
    question has one scale over all frames.
    """
    width = _shown_width(frames)
    captions = [_caption(question, width) for question in questions]
    head = max(caption.height for caption in captions)
    half, gap = width // 2, _MARGIN
    size = (half + len(questions) * (gap + width), head + _FRAME_HEIGHT)
    columns = [overlay(frames, relevance) for relevance in relevances]
    for index, pixels in enumerate(frames.permute(0, 2, 3, 1).numpy()):
        picture = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), "white")
        picture.paste(_caption(f"{index + 1} / {len(frames)}", half))
        picture.paste(_resized(pixels, half, _FRAME_HEIGHT // 2), (0, head))
        for column, (heat, caption) in enumerate(zip(columns, captions, strict=True)):
            left = half + gap + column * (width + gap)
            picture.paste(caption, (left, 0))
            picture.paste(_resized(heat[index], width, _FRAME_HEIGHT), (left, head))
        yield picture


def overlay(frames: UInt8[Tensor, "t 3 H W"], relevance: Float[Tensor, "t h w"]) -> UInt8[np.ndarray, "t H W 3"]:
    """Blend each frame with its coloured relevance; irrelevant places keep a darkened picture."""
    size = (int(frames.shape[2]), int(frames.shape[3]))
    peak = relevance.max().clamp_min(torch.finfo(relevance.dtype).tiny)
    heat = F.interpolate((relevance / peak)[:, None], size=size, mode="bilinear")[:, 0].numpy()
    coloured = 255 * mpl.colormaps["inferno"](heat)[..., :3]
    strength = 0.75 * np.sqrt(heat)[..., None]
    pixels = frames.permute(0, 2, 3, 1).numpy()
    return ((1 - strength) * 0.6 * pixels + strength * coloured).astype(np.uint8)


def wrapped(text: str, width: int) -> list[str]:
    """Break text into lines of at most ``width`` pixels of the caption's font; a longer word is cut into pieces."""
    font, lines = ImageFont.load_default(), [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".lstrip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines += [""] if lines[-1] else []
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _caption(text: str, width: int) -> Image.Image:
    lines = wrapped(text, width - 2 * _MARGIN)
    picture = Image.new("RGB", (width, _CAPTION_HEIGHT + (len(lines) - 1) * _LINE_HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    for index, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN + index * _LINE_HEIGHT), line, fill="black")
    return picture


def _shown_width(frames: UInt8[Tensor, "t 3 H W"]) -> int:
    """The width of a frame of the sheets' height that keeps the aspect ratio."""
    return max(2, round(_FRAME_HEIGHT * frames.shape[3] / frames.shape[2]))


def _resized(pixels: UInt8[np.ndarray, "H W 3"], width: int, height: int) -> Image.Image:
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
