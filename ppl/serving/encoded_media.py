"""Media as they were decoded and encoded, the last used kept.

Axes: t h w frames, rows, columns of patches | c vision channels | H W pixel rows, columns.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ppl.batches import MediumInfo
from ppl.datamodules.media_reading import DecodedMedium
from ppl.datamodules.processing import PreparedMedium
from ppl.datamodules.records import MediumRef


class EncodedMedium(NamedTuple):
    """All that further questions about a medium need."""

    ref: MediumRef
    """Where it was read."""
    decoded: DecodedMedium
    """Its frames as sampled, upright."""
    prepared: PreparedMedium
    """Without pixels."""
    grid: Float[Tensor, "t h w c"]
    """What the vision tower made of it."""

    @property
    def info(self) -> MediumInfo:
        """Everything but its pixels."""
        return self.prepared.info

    @property
    def frames(self) -> UInt8[Tensor, "t 3 H W"]:
        """The sampled frames; an image is one."""
        return self.decoded.frames

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return self.grid.nbytes + self.frames.nbytes


@dataclass(frozen=True)
class Keeping:
    """How long encoded media are kept.

    Args:
        memory_gib: Memory for them at most; those not used for longest go first. 0 keeps none.
        seconds: After so long without a question, a medium goes.
    """

    memory_gib: float = 2.0
    seconds: float = 900.0

    def __post_init__(self) -> None:
        if not (self.memory_gib >= 0 and self.seconds > 0):
            msg = f"got memory_gib={self.memory_gib} and seconds={self.seconds}, expected 0 or more, and more than 0"
            raise ValueError(msg)


class EncodedMedia:
    """Encoded media by the content of their files and all that is done to it, bounded by memory and age.

    Any thread may use it.
    """

    def __init__(self, keeping: Keeping, clock: Callable[[], float] = time.monotonic) -> None:
        self.keeping = keeping
        self.num_bytes = 0
        self._clock = clock
        self._lock = Lock()
        self._media: OrderedDict[str, tuple[float, EncodedMedium]] = OrderedDict()

    def get(self, key: str) -> EncodedMedium | None:
        """Find a medium, which is then the last used."""
        with self._lock:
            self._forget_old()
            _, medium = self._media.get(key, (0.0, None))
            if medium is None:
                return None
            self._media[key] = self._clock(), medium
            self._media.move_to_end(key)
            return medium

    def put(self, key: str, medium: EncodedMedium) -> None:
        """Keep a medium under a key that is not empty, and let go of others to make room."""
        with self._lock:
            self._forget_old()
            most = self.keeping.memory_gib * 2**30
            if not key or medium.num_bytes > most:
                return
            self._forget(key)
            while self.num_bytes + medium.num_bytes > most:
                self._forget(next(iter(self._media)))
            self._media[key] = self._clock(), medium
            self.num_bytes += medium.num_bytes

    def __len__(self) -> int:
        """Count the media that are kept."""
        self.drop_old()
        return len(self._media)

    def drop_old(self) -> None:
        """Let go of what was not used for too long, now and not at the next use."""
        with self._lock:
            self._forget_old()

    def drop_all_but(self, media: Sequence[EncodedMedium]) -> None:
        """Let go of all but those that whoever asks holds anyway."""
        held = {id(medium.grid) for medium in media}
        with self._lock:
            for key in [key for key, (_, medium) in self._media.items() if id(medium.grid) not in held]:
                self._forget(key)

    def _forget_old(self) -> None:
        oldest = self._clock() - self.keeping.seconds
        for key in [key for key, (used, _) in self._media.items() if used < oldest]:
            self._forget(key)

    def _forget(self, key: str) -> None:
        if key in self._media:
            self.num_bytes -= self._media.pop(key)[1].num_bytes


def medium_at(path: str | Path, start: float | None = None, end: float | None = None) -> MediumRef:
    """Describe a file as an image or a video, by its content.

    Args:
        path: The file.
        start: Start of the clip in seconds, for videos.
        end: End of the clip in seconds, for videos.
    """
    return MediumRef("image" if is_image(path) else "video", str(path), start, end)


def is_image(path: str | Path) -> bool:
    """Whether Pillow recognises a file as an image of one frame; everything else is left to FFmpeg.

    One that is too large for Pillow counts: it is no video, and reading it says what is wrong.
    """
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) == 1
    except Image.DecompressionBombError:
        return True
    except (OSError, ValueError):
        return False
