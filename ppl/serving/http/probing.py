"""What a medium is, by its headers: the limits are kept before anything large is decoded."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Literal

import av
from av.error import FFmpegError
from PIL import Image

from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.video_io import probe_video
from ppl.datamodules.video_source import VideoError
from ppl.datamodules.watchdog import GuardedDecoder
from ppl.serving.http.errors import ApiError
from ppl.serving.http.settings import Caps

_IMAGES = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that Pillow reads by itself; for others it starts programs, or reads what a file points to."""

_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,ogg,asf,nut,wtv,gif,apng,h264,hevc,ivf,mxf,dv"
)
"""Formats of FFmpeg's whose files hold all of the video: playlists may name files and hosts of the server's."""

_LOG = logging.getLogger(__name__)

Kind = Literal["image", "video"]


class _RefusedError(Exception):
    """What the client is told; unlike `ApiError`, it can come out of another process."""


def check_medium(decoder: VideoDecoder, kind: Kind | None, path: Path, name: str, caps: Caps) -> Kind:
    """Refuse what is no such medium, or too large a one; tell which it is.

    Args:
        decoder: Of the server; if it is guarded, the file is looked at in its process.
        kind: What the client says it is; None: find out.
        path: The file.
        name: What the client calls it.
        caps: The limits.

    Raises:
        ApiError: It is refused.
    """
    look = partial(_checked, kind, path, name, caps)
    try:
        return decoder.ask(path, look) if isinstance(decoder, GuardedDecoder) else look()
    except _RefusedError as error:
        raise ApiError(400, str(error), name) from error
    except VideoError as error:
        _LOG.warning("a client's file was refused: %s", error)
        msg = (
            f"got {name}, which hung or crashed the process that looked into it, or took all of its memory; "
            "expected a whole mp4, webm, JPEG or PNG, say; convert it"
        )
        raise ApiError(400, msg, name) from error


def _checked(kind: Kind | None, path: Path, name: str, caps: Caps) -> Kind:
    if kind is None:
        from ppl.serving.encoded_media import is_image  # brings more than processes need that are told the kind

        kind = "image" if is_image(path) else "video"
    (_check_image if kind == "image" else _check_video)(path, name, caps)
    return kind


def _check_image(path: Path, name: str, caps: Caps) -> None:
    try:
        with Image.open(path, formats=_IMAGES) as image:
            width, height = image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _RefusedError(f"got more pixels than {caps.megapixels:g} million; scale the image down") from error
    except (OSError, ValueError, SyntaxError) as error:
        msg = f"got {name}, which is no image of the formats {', '.join(_IMAGES)}; convert it, or fetch it again"
        raise _RefusedError(msg) from error
    _check_pixels(width, height, caps)


def _check_video(path: Path, name: str, caps: Caps) -> None:
    try:
        options = {"format_whitelist": _CONTAINERS, "max_pixels": str(int(caps.megapixels * 1e6))}
        with av.open(str(path), metadata_errors="replace", options=options) as container:
            for stream in container.streams.video:
                _check_pixels(stream.codec_context.width, stream.codec_context.height, caps)
        found = probe_video(path)
    except (FFmpegError, VideoError, ValueError, ZeroDivisionError) as error:
        msg = f"got {name}, which is no whole video of a known format, expected mp4 or webm, say; convert it"
        raise _RefusedError(msg) from error
    _check_pixels(found.width, found.height, caps)
    if found.duration > caps.video_seconds:
        msg = f"got {found.duration:.1f} s of video, expected at most {caps.video_seconds:g} s; cut a clip out of it"
        raise _RefusedError(msg)


def _check_pixels(width: int, height: int, caps: Caps) -> None:
    if width * height > caps.megapixels * 1e6:
        msg = f"got {width} x {height} pixels, expected at most {caps.megapixels:g} million; scale it down"
        raise _RefusedError(msg)
