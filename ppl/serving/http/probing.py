"""What a medium is, by its headers: the limits are kept before anything large is decoded."""

from __future__ import annotations

from pathlib import Path

import av
from av.error import FFmpegError
from PIL import Image

from ppl.datamodules.video_io import probe_video
from ppl.datamodules.video_source import VideoError
from ppl.serving.http.errors import ApiError
from ppl.serving.http.settings import Caps

_IMAGES = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that Pillow reads by itself; for others it starts programs, or reads what a file points to."""

_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,ogg,asf,nut,wtv,gif,apng,h264,hevc,ivf,mxf,dv"
)
"""Formats of FFmpeg's whose files hold all of the video: playlists may name files and hosts of the server's."""


def check_image(path: Path, name: str, caps: Caps) -> None:
    """Refuse what is no image, or too large a one.

    Args:
        path: The file.
        name: What the client calls it.
        caps: The limits.

    Raises:
        ApiError: It is refused.
    """
    try:
        with Image.open(path, formats=_IMAGES) as image:
            width, height = image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ApiError(400, f"got more pixels than {caps.megapixels:g} million; scale the image down", name) from error
    except (OSError, ValueError, SyntaxError) as error:
        msg = f"got {name}, which is no image of the formats {', '.join(_IMAGES)}; convert it, or fetch it again"
        raise ApiError(400, msg, name) from error
    _check_pixels(width, height, name, caps)


def check_video(path: Path, name: str, caps: Caps) -> None:
    """Refuse what is no video, or one that is too long or whose frames are too large.

    Args:
        path: The file.
        name: What the client calls it.
        caps: The limits.

    Raises:
        ApiError: It is refused.
    """
    try:
        options = {"format_whitelist": _CONTAINERS, "max_pixels": str(int(caps.megapixels * 1e6))}
        with av.open(str(path), metadata_errors="replace", options=options) as container:
            for stream in container.streams.video:
                _check_pixels(stream.codec_context.width, stream.codec_context.height, name, caps)
        found = probe_video(path)
    except (FFmpegError, VideoError, ValueError, ZeroDivisionError) as error:
        msg = f"got {name}, which is no whole video of a known format, expected mp4 or webm, say; convert it"
        raise ApiError(400, msg, name) from error
    _check_pixels(found.width, found.height, name, caps)
    if found.duration > caps.video_seconds:
        msg = f"got {found.duration:.1f} s of video, expected at most {caps.video_seconds:g} s; cut a clip out of it"
        raise ApiError(400, msg, name)


def _check_pixels(width: int, height: int, name: str, caps: Caps) -> None:
    if width * height > caps.megapixels * 1e6:
        msg = f"got {width} x {height} pixels, expected at most {caps.megapixels:g} million; scale it down"
        raise ApiError(400, msg, name)
