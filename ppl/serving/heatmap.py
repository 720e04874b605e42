"""``ppl heatmap``: the frames of a video with their relevance to a question laid over them.

Axes: t frames | h w patch rows, columns | H W pixel rows, columns.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from ppl.serving.launch import open_session

_FRAME_HEIGHT = 192
_CAPTION_HEIGHT = 22
_PER_ROW = 8


def run_heatmap(options: argparse.Namespace) -> None:
    """Score ``options.media`` against ``options.question`` and write the picture to ``options.output``.

    Raises:
        ValueError: The question is empty.
    """
    if not options.question.strip():
        msg = "got an empty question, expected one to score the frames against"
        raise ValueError(msg)
    session = open_session(options)
    picture = heatmap_strip(
        session.frames, session.relevance(options.question)[: len(session.frames)], options.question
    )
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    picture.save(options.output, format="PNG")
    print(f"wrote {options.output}: {len(session.frames)} frame(s), {options.question!r}")


def heatmap_strip(frames: UInt8[Tensor, "t 3 H W"], relevance: Float[Tensor, "t h w"], question: str) -> Image.Image:
    """Lay relevance over frames, eight in a row, all on one scale: the most relevant patch is the brightest."""
    heat = overlay(frames, relevance)
    width = round(_FRAME_HEIGHT * frames.shape[3] / frames.shape[2])
    columns = min(_PER_ROW, len(heat))
    rows = -(-len(heat) // columns)
    sheet = Image.new("RGB", (columns * width, _CAPTION_HEIGHT + rows * _FRAME_HEIGHT), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((4, 4), question, fill="black")
    for index, frame in enumerate(heat):
        row, column = divmod(index, columns)
        tile = Image.fromarray(frame).resize((width, _FRAME_HEIGHT), Image.Resampling.BICUBIC)
        corner = (column * width, _CAPTION_HEIGHT + row * _FRAME_HEIGHT)
        sheet.paste(tile, corner)
        pen.rectangle((*corner, corner[0] + width - 1, corner[1] + _FRAME_HEIGHT - 1), outline="white")
        pen.text((corner[0] + 4, corner[1] + 3), str(index + 1), fill="white")
    return sheet


def overlay(frames: UInt8[Tensor, "t 3 H W"], relevance: Float[Tensor, "t h w"]) -> UInt8[np.ndarray, "t H W 3"]:
    """Blend each frame with its coloured relevance; irrelevant places keep a darkened picture."""
    size = (int(frames.shape[2]), int(frames.shape[3]))
    peak = relevance.max().clamp_min(torch.finfo(relevance.dtype).tiny)
    heat = F.interpolate((relevance / peak)[:, None], size=size, mode="bilinear")[:, 0].numpy()
    coloured = 255 * mpl.colormaps["inferno"](heat)[..., :3]
    strength = 0.75 * np.sqrt(heat)[..., None]
    pixels = frames.permute(0, 2, 3, 1).numpy()
    return ((1 - strength) * 0.6 * pixels + strength * coloured).astype(np.uint8)
