"""Write pictures as an animation: GIF, or H.264 in MP4."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

MOST_GIF_FPS = 50.0
"""A GIF stores delays in hundredths of a second, and players slow down those under two of them."""


def write_gif(path: str | Path, pictures: Iterable[Image.Image], fps: float) -> None:
    """Write a GIF that repeats for ever.

    Args:
        path: File to write, whatever its name.
        pictures: RGB, of one size. Pillow merges neighbours that are equal into one that is shown longer.
        fps: Pictures a second; the delay between them is rounded to hundredths of a second.

    Raises:
        ValueError: More pictures a second than a GIF can show.
    """
    if fps > MOST_GIF_FPS:
        msg = f"got {fps:g} pictures a second for a GIF, expected at most {MOST_GIF_FPS:g}; lower --fps or write mp4"
        raise ValueError(msg)
    first, *others = pictures
    first.save(path, format="GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)


def write_mp4(path: str | Path, pictures: Iterable[Image.Image], fps: float) -> None:
    """Write H.264 in MP4, in the pixel format that every player reads (yuv420p).

    Args:
        path: File to write, whatever its name.
        pictures: RGB, of one size with even sides.
        fps: Pictures a second.
    """
    rate = Fraction(fps).limit_denominator(1000)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / rate
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.width, stream.height = picture.size
            frame = av.VideoFrame.from_image(picture)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
