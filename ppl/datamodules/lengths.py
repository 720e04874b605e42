"""How long samples will be for the language model, by arithmetic: nothing is decoded.

Videos count with as many frames as are asked for, images that are tiled with the size in their header.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, UnidentifiedImageError

from ppl.batches import InputSpec, MediaKind, MediumInfo
from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record
from ppl.datamodules.templates import segments
from ppl.functional.anyres import best_resolution, closest_aspect

_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)
"""EXIF's tag, and its values with which rows are columns."""


def record_kind(record: Record) -> str:
    """``text``, ``image``, ``multi_image`` or ``video``; with both, the video decides."""
    kinds = [medium.kind for medium in record.media]
    if not kinds:
        return "text"
    return "video" if "video" in kinds else "image" if len(kinds) == 1 else "multi_image"


def record_lengths(records: Sequence[Record], processor: Processor) -> list[int]:
    """Positions of each record's sample, but for fixed text around its media."""
    inputs = processor.inputs
    texts = [
        "".join(piece.text for piece in segments(record.turns, processor.template)).replace(
            PLACEHOLDER, inputs.image_token
        )
        for record in records
    ]
    encoded = inputs.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    begins = int(isinstance(inputs.tokenizer.bos_token_id, int))
    return [
        begins + len(ids) - len(record.media) + sum(map(inputs.num_visual_tokens, media_infos(record, processor)))
        for record, ids in zip(records, encoded, strict=True)
    ]


def media_infos(record: Record, processor: Processor) -> list[MediumInfo]:
    """Describe each medium as it will be in a batch, as far as that is known without decoding; without a key."""
    side = processor.inputs.image_size
    num_images = sum(ref.kind == "image" for ref in record.media)
    media = []
    for ref in record.media:
        if ref.kind == "video":
            media.append(MediumInfo(0, "video", ref.num_frames or processor.num_frames, (side, side), ""))
        else:
            kind: MediaKind = "image" if num_images == 1 else "multi_image"
            media.append(_image(ref, kind, processor.inputs))
    return media


def _image(ref: MediumRef, kind: MediaKind, inputs: InputSpec) -> MediumInfo:
    side, canvases = inputs.image_size, inputs.image_grid_pinpoints
    if kind not in inputs.pixels.tiled_kinds or not canvases:
        return MediumInfo(0, kind, 1, (side, side), "")
    size = _header_size(ref) or (side, side)
    if inputs.pixels.tiling == "anyres":
        height, width = best_resolution(size, canvases)
        return MediumInfo(0, kind, 1 + height // side * (width // side), size, "")
    height, width = closest_aspect(size, side, canvases)
    tiles = height // side * (width // side)
    return MediumInfo(0, kind, tiles if tiles == 1 else tiles + 1, size, "")


def _header_size(ref: MediumRef) -> tuple[int, int] | None:
    """Upright height and width; None where the header does not say: loading the image will tell what is wrong."""
    if ref.inside is not None:
        return None
    try:
        with Image.open(ref.path) as image:
            width, height = image.size
            return (width, height) if image.getexif().get(_ORIENTATION) in _TURNED else (height, width)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
