"""What a server offers, and what one request may ask of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Caps:
    """The most that one request may ask for; more is refused before anything is computed.

    Args:
        body_mib: Size of a request's body, and of a medium that is fetched from elsewhere.
        media: Images and videos of a conversation.
        megapixels: Of an image, or of a frame of a video.
        video_seconds: Length of a video.
        frames: Sampled frames of all its videos, and images.
        tokens: Of the answer.
        text: Characters of the conversation.
        seconds: Until the answer has ended, waiting included.
    """

    body_mib: float = 64.0
    media: int = 8
    megapixels: float = 34.0
    video_seconds: float = 1800.0
    frames: int = 256
    tokens: int = 1024
    text: int = 200_000
    seconds: float = 120.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                msg = f"got {field.name}={getattr(self, field.name)}, expected more than 0"
                raise ValueError(msg)

    @property
    def body_bytes(self) -> int:
        """Size of a body, in bytes."""
        return int(self.body_mib * 2**20)


@dataclass(frozen=True)
class Settings:
    """What a server offers.

    Args:
        name: Of the model.
        media_root: Folder whose files ``file://`` URLs may name; None: there are no such URLs.
        allow_remote: Whether media are fetched from ``http://`` and ``https://`` URLs.
        token: What clients have to send as ``Authorization: Bearer TOKEN``; None: nothing.
        caps: The most that one request may ask for.
        uploads_gib: Disk space for clients' media; uploads that wait longest go first.
        upload_minutes: How long an upload is kept.
        stall_seconds: How long a client may take to send its request, or leave a piece of the answer unread.
    """

    name: str
    media_root: Path | None = None
    allow_remote: bool = False
    token: str | None = None
    caps: Caps = Caps()
    uploads_gib: float = 4.0
    upload_minutes: float = 60.0
    stall_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("uploads_gib", "upload_minutes", "stall_seconds"):
            if not getattr(self, name) > 0:
                msg = f"got {name}={getattr(self, name)}, expected more than 0"
                raise ValueError(msg)
        if self.token == "":
            msg = "got an empty token, expected one of some length, or none: set it, or serve without"
            raise ValueError(msg)
        if self.media_root is not None and not self.media_root.is_dir():
            msg = f"got media root {str(self.media_root)!r}, expected a folder; name one that exists"
            raise ValueError(msg)
