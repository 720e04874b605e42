"""Open media, several at once, videos in processes that may hang or crash without harm."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.frame_sampling import Linspace
from ppl.datamodules.media_reading import read_medium
from ppl.datamodules.missing_media import missing_media
from ppl.datamodules.records import MediumRef, Record
from ppl.datamodules.watchdog import GuardedDecoder
from ppl.inspection.reading import Contents, Fault

_AT_ONCE = 1000
"""Media that wait for a thread: bounds what a million of them take."""
_MISSING = "missing; correct the path or media_root, or fetch the file"

Told = TypeVar("Told")


class Opener:
    """Looks into media on several threads, each with a decoding process of its own.

    Args:
        decoder: Reads video files; None for PyAV. One that is guarded keeps its limits.
        num_workers: Media at a time.
    """

    def __init__(self, decoder: VideoDecoder | None, num_workers: int) -> None:
        if num_workers < 1:
            raise ValueError(f"got {num_workers} workers, expected at least 1; raise --workers")
        self.decoder = decoder
        self.num_workers = num_workers
        self._of_thread = threading.local()

    def each(
        self, look: Callable[[MediumRef, VideoDecoder], Told], media: Sequence[MediumRef]
    ) -> Iterator[Told | Exception]:
        """Look into each medium; what goes wrong with one is given in its place.

        Args:
            look: At a medium, with a guarded decoder.
            media: In the order of the answers.
        """

        def guarded(ref: MediumRef) -> Told | Exception:
            try:
                return look(ref, self._decoder())
            except Exception as error:  # whatever it is, it is told
                return error

        with ThreadPoolExecutor(self.num_workers) as pool:
            for first in range(0, len(media), _AT_ONCE):
                yield from pool.map(guarded, media[first : first + _AT_ONCE])

    def _decoder(self) -> VideoDecoder:
        if not hasattr(self._of_thread, "decoder"):
            decoder = self.decoder
            self._of_thread.decoder = (
                copy.copy(decoder) if isinstance(decoder, GuardedDecoder) else GuardedDecoder(decoder)
            )
        return self._of_thread.decoder


def open_medium(ref: MediumRef, decoder: VideoDecoder) -> None:
    """Decode an image, or the first and the last frame of a video or of the clip that the record cuts out of it.

    Args:
        ref: The medium.
        decoder: Reads video files.

    Raises:
        Exception: It cannot be decoded.
    """
    read_medium(ref, 2, Linspace(), decoder)


def distinct_media(records: Sequence[Record]) -> list[MediumRef]:
    """List each medium once, whatever number of frames is asked of it.

    Args:
        records: That name them.
    """
    return list(dict.fromkeys(replace(ref, num_frames=None) for record in records for ref in record.media))


def find_broken(contents: Sequence[Contents], opener: Opener, advance: Callable[[int, int], None]) -> list[Fault]:
    """Name every record's media, and subtitles that its prompt needs, that are missing; and media that do not open.

    Args:
        contents: The records.
        opener: Opens their media, each once.
        advance: Called with how many were looked at, and of how many.
    """
    records = [record for part in contents for record in part.records]
    missing = missing_media(records)
    reasons = dict.fromkeys(missing, _MISSING)
    media = [ref for ref in distinct_media(records) if not missing.keys() & set(ref.files)]
    broken: dict[MediumRef, str] = {}
    for index, (ref, answer) in enumerate(zip(media, opener.each(open_medium, media), strict=True)):
        if isinstance(answer, Exception):
            broken[ref] = told(answer)
        advance(index + 1, len(media))
    faults = []
    for record in records:
        for ref in dict.fromkeys(replace(ref, num_frames=None) for ref in record.media):
            faults += [Fault(record.origin, record.id, path, reasons[path]) for path in ref.files if path in reasons]
            if ref in broken:
                faults.append(Fault(record.origin, record.id, name(ref), broken[ref]))
    lacking = (each for part in contents for each in part.part.lacking)
    return faults + [Fault(record.origin, record.id, file, _MISSING) for record, file in lacking]


def name(ref: MediumRef) -> str:
    """Path of a medium, with its place inside that file if it is not all of it."""
    return ref.path if ref.inside is None else f"{ref.path}, {ref.inside}"


def told(error: Exception) -> str:
    """Word what went wrong, with the notes on it."""
    kind = "" if isinstance(error, ValueError | FileNotFoundError) else f"{type(error).__name__}: "
    return "; ".join([f"{kind}{error}", *getattr(error, "__notes__", [])])
