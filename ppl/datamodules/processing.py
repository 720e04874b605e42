"""Turn records into samples: read and resize media, render, tokenise and mask text.

Axes: l text positions, visual placeholders included | f frames and tiles of all media of a sample | t frames of one
medium | H W pixel rows, columns | S side of the resized square.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from ppl.batches import IGNORE_INDEX, InputSpec, KeptFeatures, MediumInfo
from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.decoders.pyav import PyAVDecoder
from ppl.datamodules.frame_sampling import FrameSampler, Midpoints
from ppl.datamodules.images import square_frames, tile_image
from ppl.datamodules.kept_media import read_note, write_note
from ppl.datamodules.media_reading import DecodedMedium, read_medium
from ppl.datamodules.media_text import insert_media, render_medium
from ppl.datamodules.medium_keys import check_repeats, key_of, medium_kind, resized_key
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record
from ppl.datamodules.templates import TEMPLATES, Segment, TemplateName, prompt_turns, segments
from ppl.functional.splicing import expand_placeholders


class PreparedMedium(NamedTuple):
    """Pixels of one medium as the vision tower sees them."""

    frames: UInt8[Tensor, "f 3 S S"]
    info: MediumInfo
    """With ``sample`` 0: the collator knows the row."""
    times: tuple[float, ...] = ()
    """As decoded."""
    duration: float = 0.0
    """As decoded."""


class Sample(NamedTuple):
    """One row of a batch, unpadded."""

    input_ids: Int64[Tensor, " l"]
    labels: Int64[Tensor, " l"]
    frames: UInt8[Tensor, "f 3 S S"]
    media: list[MediumInfo]
    """With ``sample`` 0: the collator knows the row."""
    prompt: str
    """What the aligner scores the media against: the questions, without answers and placeholders."""
    id: str
    category: str
    answer: str


class Processor:
    """Makes samples that fit one model.

    Args:
        inputs: The model's demands.
        template: Chat template the language model was trained with.
        num_frames: Frames sampled from a video file; the most of them, if the sampler takes fewer.
        sampler: Chooses the frames; None for the middles of equal segments.
        decoder: Reads video files; None for PyAV.

    Raises:
        ValueError: If the tokenizer does not fit: no character offsets, no placeholder, or another end-of-answer token;
            or the model keeps features of frames that are drawn at random.
    """

    def __init__(
        self,
        inputs: InputSpec,
        template: TemplateName = "plain_v1",
        num_frames: int = 32,
        sampler: FrameSampler | None = None,
        decoder: VideoDecoder | None = None,
    ) -> None:
        if num_frames < 1:
            raise ValueError(f"got num_frames={num_frames}, expected at least 1; raise num_frames")
        self.inputs = inputs
        self.template = TEMPLATES[template]
        self.num_frames = num_frames
        self.sampler = sampler or Midpoints()
        self.decoder = decoder or PyAVDecoder()
        self.kept: KeptFeatures | None = None  # set to train
        check_repeats(inputs, self.sampler)
        self._placeholder_id = _single_id(inputs, inputs.image_token, "change image_token of the model's input_spec")
        ending_id = _single_id(inputs, self.template.assistant_suffix, f"change template={template!r}")
        if ending_id != inputs.tokenizer.eos_token_id:
            raise ValueError(
                f"got template={template!r}, which ends answers with {self.template.assistant_suffix!r}, but the "
                f"tokenizer's generation stops at {inputs.tokenizer.eos_token!r}; change template"
            )

    def encode(self, record: Record, *, for_generation: bool = False) -> Sample:
        """Read a record's media from disk and make a sample of it.

        Args:
            record: A checked record.
            for_generation: Drop the last answer and end with the assistant prefix.
        """
        return self.assemble(record, self.load(record.media), for_generation=for_generation)

    def encode_decoded(self, record: Record, media: Sequence[DecodedMedium], *, for_generation: bool = False) -> Sample:
        """Make a sample of a record whose media are in memory; the record's own ``media`` are not looked at."""
        return self.assemble(record, self.prepare(media), for_generation=for_generation)

    def read(self, ref: MediumRef) -> DecodedMedium:
        """Decode one medium from disk, or out of the file it lies inside."""
        return read_medium(ref, ref.num_frames or self.num_frames, self.sampler, self.decoder)

    def load(self, refs: Sequence[MediumRef]) -> list[PreparedMedium]:
        """Give the media of one sample, resized; but those whose features are kept without pixels, undecoded."""
        num_images = sum(ref.kind == "image" for ref in refs)
        return [self._kept(ref, num_images) or self._decoded(ref, num_images) for ref in refs]

    def _kept(self, ref: MediumRef, num_images: int) -> PreparedMedium | None:
        if self.kept is None:
            return None
        kind = medium_kind(ref.kind, num_images)
        key = key_of(ref, kind, self.inputs, self.num_frames, self.sampler, self.decoder)
        note, size = read_note(self.kept, key), self.inputs.image_size
        if note is None:
            return None
        info = MediumInfo(0, kind, note.num_frames, note.image_size, key, has_pixels=False)
        return PreparedMedium(torch.empty(0, 3, size, size, dtype=torch.uint8), info, note.times, note.duration)

    def _decoded(self, ref: MediumRef, num_images: int) -> PreparedMedium:
        medium = self.resize(self.read(ref), num_images)
        if self.kept is not None:
            write_note(self.kept, medium.info, medium.times, medium.duration)
        return medium

    def prepare(self, media: Sequence[DecodedMedium]) -> list[PreparedMedium]:
        """Resize the media of one sample to what the vision tower sees.

        As the model's `PixelFormat` says: frames become squares, images are tiled or become squares.
        """
        num_images = sum(medium.kind == "image" for medium in media)
        return [self.resize(medium, num_images) for medium in media]

    def assemble(self, record: Record, media: Sequence[PreparedMedium], *, for_generation: bool = False) -> Sample:
        """Make a sample of a record and its resized media; the record's own ``media`` are not looked at.

        Args:
            record: A checked record.
            media: One for each placeholder, in order.
            for_generation: Drop the last answer and end with the assistant prefix.

        Raises:
            ValueError: If placeholders and media differ in number, or the sample is too long for the model.
        """
        turns = prompt_turns(record.turns) if for_generation else record.turns
        pieces = segments(turns, self.template)
        if for_generation and record.answer_prefix:
            pieces.append(Segment(self.template.answer_prefix + record.answer_prefix, trains=False))
        self._check_placeholders(pieces, len(media), record.origin)
        groups = [self._groups(medium.info) for medium in media]
        texts = [self._render(medium, len(group)) for medium, group in zip(media, groups, strict=True)]
        input_ids, labels = self._tokenize(insert_media(pieces, texts))
        counts = [count for group in groups for count in group]
        self._check_length(len(input_ids) - len(counts), sum(counts), len(media), record.origin)
        input_ids, labels = expand_placeholders(input_ids, labels, counts, self._placeholder_id)
        size = self.inputs.image_size
        no_frames = torch.empty(0, 3, size, size, dtype=torch.uint8)
        return Sample(
            input_ids=input_ids,
            labels=labels,
            frames=torch.cat([no_frames, *(medium.frames for medium in media)]),
            media=[medium.info for medium in media],
            prompt=" ".join(record.questions) if record.guide is None else record.guide,
            id=record.id,
            category=record.category,
            answer=record.turns[-1].text if record.turns[-1].role == "assistant" else "",
        )

    def resize(self, medium: DecodedMedium, num_images: int) -> PreparedMedium:
        """Resize one medium of a sample that has so many images."""
        size, pinpoints = self.inputs.image_size, self.inputs.image_grid_pinpoints
        pixels = self.inputs.pixels
        kind = medium_kind(medium.kind, num_images)
        if kind in pixels.tiled_kinds and pinpoints:
            frames = tile_image(medium.frames[0], size, pinpoints, pixels.tiling)
        else:
            frames = square_frames(medium.frames, size, pixels.mode(kind), pixels.bars)
        height, width = medium.frames.shape[-2:]
        info = MediumInfo(0, kind, len(frames), (height, width), resized_key(medium.key, kind, self.inputs))
        return PreparedMedium(frames, info, medium.times, medium.duration)

    def _groups(self, info: MediumInfo) -> list[int]:
        groups = self.inputs.token_groups
        return [self.inputs.num_visual_tokens(info)] if groups is None else groups(info)

    def _render(self, medium: PreparedMedium, num_groups: int) -> str:
        text, is_video = self.inputs.media_text, medium.info.kind == "video"
        return render_medium(
            text, self.inputs.image_token, num_groups, medium.times, medium.duration, is_video=is_video
        )

    def _check_placeholders(self, pieces: list[Segment], num_media: int, origin: str) -> None:
        found = sum(piece.text.count(PLACEHOLDER) + piece.text.count(self.inputs.image_token) for piece in pieces)
        if found != num_media:
            raise ValueError(
                f"{origin}: got {found} placeholders for {num_media} media, expected as many; write {PLACEHOLDER} once "
                f"per medium in the user turns and {self.inputs.image_token!r} nowhere in the text"
            )

    def _tokenize(self, pieces: list[Segment]) -> tuple[Int64[Tensor, " l"], Int64[Tensor, " l"]]:
        """Tokenise the whole text once; a token trains when its first character lies in a piece that trains.

        Piece by piece would add a stray space token at each seam of SentencePiece-like tokenizers.
        """
        trains = [piece.trains for piece in pieces for _ in piece.text]
        text = "".join(piece.text for piece in pieces)
        encoded = self.inputs.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = encoded["input_ids"]
        starts = [start for start, _ in encoded["offset_mapping"]]
        labels = [
            token if start < len(trains) and trains[start] else IGNORE_INDEX
            for token, start in zip(ids, starts, strict=True)
        ]
        bos = self.inputs.tokenizer.bos_token_id
        if isinstance(bos, int):
            ids, labels = [bos, *ids], [IGNORE_INDEX, *labels]
        return torch.tensor(ids, dtype=torch.int64), torch.tensor(labels, dtype=torch.int64)

    def _check_length(self, num_text: int, num_visual: int, num_media: int, origin: str) -> None:
        total = num_text + num_visual
        if total > self.inputs.max_length:
            raise ValueError(
                f"{origin}: got {total} positions ({num_text} of text, {num_visual} of {num_media} media), expected at "
                f"most max_length={self.inputs.max_length}; sample fewer frames, pool with a larger kernel or "
                "shorten the text"
            )


def _single_id(inputs: InputSpec, text: str, change: str) -> int:
    """Id of a text that must be one token."""
    tokenizer = inputs.tokenizer
    if not tokenizer.is_fast:
        raise ValueError(
            f"got a slow tokenizer ({tokenizer.name_or_path!r}) without character offsets, expected a fast one; "
            "load it with use_fast=True"
        )
    ids = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise ValueError(f"got {text!r}, {len(ids)} tokens {ids} of {tokenizer.name_or_path!r}, expected one; {change}")
    return ids[0]
