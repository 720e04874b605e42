"""From files to what the vision tower makes of them, for many who ask at once: each medium is decoded and encoded once.

Axes: t h w frames, rows, columns of patches | c vision channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import NamedTuple
from weakref import WeakValueDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from ppl.datamodules.media_reading import DecodedMedium, read_medium
from ppl.datamodules.medium_keys import key_of, medium_kind
from ppl.datamodules.processing import PreparedMedium, Processor
from ppl.datamodules.records import MediumRef
from ppl.datamodules.watchdog import GuardedDecoder
from ppl.modules.video_llm import VideoLLM
from ppl.serving.encoded_media import EncodedMedia, EncodedMedium


@dataclass(eq=False)
class Decoded:
    """A medium before the vision tower, and after it; all questions that wait for it share one."""

    key: str
    medium: DecodedMedium
    prepared: PreparedMedium
    grid: Float[Tensor, "t h w c"] | None = field(default=None, init=False)


class Prepared(NamedTuple):
    """A medium that one conversation waits for."""

    ref: MediumRef
    decoded: Future[Decoded]
    """Done."""


class MediaEncoder:
    """Decodes and encodes the media of conversations.

    `prepare` may run in several threads at once; `encode` belongs to the thread that runs the model. What several
    conversations want at the same time is decoded once and encoded once, even if nothing is kept.

    Args:
        model: In evaluation mode.
        processor: Reads media as in training.
        kept: What is kept; shared with nobody whose tower is another.
    """

    def __init__(self, model: VideoLLM, processor: Processor, kept: EncodedMedia) -> None:
        self.model = model
        self.processor = processor
        self.kept = kept
        self.num_found = 0
        self.num_encoded = 0
        self._lock = Lock()
        self._wanted: WeakValueDictionary[str, Future[Decoded]] = WeakValueDictionary()
        """As long as a conversation waits for one."""

    def prepare(self, refs: Sequence[MediumRef]) -> list[EncodedMedium | Prepared]:
        """Find the media of one conversation, or decode and resize them.

        Raises:
            ValueError: What is there is not such a medium.
            FileNotFoundError: Nothing is there.
        """
        num_images = sum(ref.kind == "image" for ref in refs)
        return [self._prepared(ref, num_images) for ref in refs]

    @torch.no_grad()
    def encode(self, media: Sequence[EncodedMedium | Prepared]) -> list[EncodedMedium]:
        """Run the vision tower over what is not encoded yet."""
        before = self.num_encoded
        encoded = [medium if isinstance(medium, EncodedMedium) else self._encoded(medium) for medium in media]
        self.num_found += len(media) - (self.num_encoded - before)
        return encoded

    def read(self, refs: Sequence[MediumRef]) -> list[EncodedMedium]:
        """Do both at once."""
        return self.encode(self.prepare(refs))

    def _prepared(self, ref: MediumRef, num_images: int) -> EncodedMedium | Prepared:
        reader, kind = self.processor, medium_kind(ref.kind, num_images)
        key = key_of(ref, kind, reader.inputs, reader.num_frames, reader.sampler, reader.decoder)
        with self._lock:
            # in this order: what nobody waits for any more has been kept before
            wanted = self._wanted.get(key) if key else None
            if wanted is None and (known := self.kept.get(key)) is not None:
                return known._replace(ref=ref)
            future: Future[Decoded] = wanted or Future()
            if key:
                self._wanted[key] = future
        if wanted is not None:
            # what went wrong for another, whose file may be gone, is not said here
            return Prepared(ref, wanted) if wanted.exception() is None else self._prepared(ref, num_images)
        try:
            medium = self._read(ref)
            future.set_result(Decoded(key, medium, reader.resize(medium, num_images)))
        except BaseException as error:
            with self._lock:
                self._wanted.pop(key, None)
            future.set_exception(error)
            raise
        return Prepared(ref, future)

    def _read(self, ref: MediumRef) -> DecodedMedium:
        """Decode; images too in the process of a guarded decoder, which itself reads videos only."""
        reader, decoder = self.processor, self.processor.decoder
        if ref.kind == "image" and isinstance(decoder, GuardedDecoder):
            return decoder.ask(ref.path, partial(read_medium, ref, 1, reader.sampler, decoder.decoder))
        return reader.read(ref)

    def _encoded(self, medium: Prepared) -> EncodedMedium:
        decoded = medium.decoded.result()
        prepared, grid = decoded.prepared, decoded.grid
        if grid is None:
            device = next(self.model.parameters()).device
            [grid] = self.model.encode(prepared.frames.to(device), [prepared.info])
            self.num_encoded += 1
            prepared = prepared._replace(frames=prepared.frames[:0].clone())  # not a view, which would keep all
            decoded.prepared, decoded.grid = prepared, grid
            self.kept.put(decoded.key, EncodedMedium(medium.ref, decoded.medium, prepared, grid))
        return EncodedMedium(medium.ref, decoded.medium, prepared, grid)
