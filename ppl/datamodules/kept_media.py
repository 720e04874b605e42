"""Media whose features are kept: all else that a sample needs of them is noted beside the features, as JSON.

So frames whose features are kept need not be decoded. A note is of pixels, so that towers share it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

from ppl.batches import KeptFeatures, MediumInfo


class Note(NamedTuple):
    """What a sample tells of a medium beside its pixels."""

    num_frames: int
    image_size: tuple[int, int]
    """Upright (height, width) of the original, in pixels."""
    times: tuple[float, ...]
    """When each frame of a video appears, in seconds."""
    duration: float
    """Seconds of the whole video."""


def read_note(kept: KeptFeatures, key: str) -> Note | None:
    """Give what was noted of a medium; None where there is no note, or no features that can be read.

    Args:
        kept: The features.
        key: Of the medium's pixels; an empty one has no note.
    """
    try:
        told = json.loads(_file(kept.folder, key).read_text()) if key else {}
        if told.pop("key", None) != key:
            return None
        height, width = told.pop("image_size")
        note = Note(image_size=(height, width), times=tuple(told.pop("times")), **told)
    except (FileNotFoundError, ValueError, TypeError, KeyError):  # damaged: it is decoded, and written again
        return None
    return note if kept.has(key) else None


def write_note(kept: KeptFeatures, info: MediumInfo, times: tuple[float, ...], duration: float) -> None:
    """Note a medium, whole or not at all; where that is not possible, it is told, and decoding goes on.

    Args:
        kept: The features, to come.
        info: The medium; without a key nothing is noted.
        times: Of a video's frames, in seconds.
        duration: Of all of it.
    """
    note = Note(info.num_frames, info.image_size, times, duration)
    file, text = _file(kept.folder, info.key), json.dumps({"key": info.key} | note._asdict())
    try:
        if not info.key or (file.exists() and file.read_text() == text):
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(".partial", dir=file.parent)
        with os.fdopen(handle, "w") as opened:
            opened.write(text)
        Path(partial).replace(file)
    except OSError as error:
        warnings.warn(f"{file}: cannot be written ({error}); its medium is decoded in every epoch", stacklevel=2)


def _file(folder: str, key: str) -> Path:
    """Beside the features, where `ppl cache` looks for what killed processes left."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return Path(folder) / digest[:2] / f"{digest}.json"
