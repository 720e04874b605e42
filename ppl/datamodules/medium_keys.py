"""What names the pixels of a medium for a feature cache: its content, and all that is done to it.

A key is known before anything is decoded.
"""

from __future__ import annotations

from typing import Literal

from ppl.batches import InputSpec, MediaKind
from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.frame_folders import frames_digest, is_frames
from ppl.datamodules.frame_sampling import FrameSampler
from ppl.datamodules.medium_files import local_file
from ppl.datamodules.records import MediumRef
from ppl.datamodules.watchdog import GuardedDecoder


def check_repeats(inputs: InputSpec, sampler: FrameSampler) -> None:
    """Refuse frames that differ from epoch to epoch where features are kept.

    Raises:
        ValueError: They do.
    """
    if inputs.caches_features and sampler.is_random:
        raise ValueError(
            f"got a feature cache with frames drawn at random ({sampler!r}), expected the same frames in each epoch: "
            "set model.cache: null, or data.sampler to one that draws no lots"
        )


def sampled_key(digest: str, ref: MediumRef, num_frames: int, sampler: FrameSampler, decoder: VideoDecoder) -> str:
    """Key of a video's frames as decoded; empty where they are drawn at random.

    Args:
        digest: Of the content.
        ref: Where it lies.
        num_frames: Frames asked of the sampler.
        sampler: Chooses them.
        decoder: Reads them: colours may differ between two by a grey level.
    """
    if sampler.is_random:
        return ""
    reader = decoder.decoder if isinstance(decoder, GuardedDecoder) else decoder  # the same frames, more safely
    how = (ref.start, ref.end, ref.fps, num_frames, sampler, type(reader).__name__)
    return "|".join([digest, *map(str, how)])


def medium_kind(kind: Literal["image", "video"], num_images: int) -> MediaKind:
    """As what the model sees a medium of a sample that has so many images."""
    return "video" if kind == "video" else "image" if num_images == 1 else "multi_image"


def resized_key(key: str, kind: MediaKind, inputs: InputSpec) -> str:
    """Key of a medium as the vision tower sees it; empty for an empty one."""
    pixels, canvases = inputs.pixels, inputs.image_grid_pinpoints
    if kind in pixels.tiled_kinds and canvases:
        how = f"{pixels.tiling}|{canvases}"
    else:
        how = f"{pixels.mode(kind)}|{pixels.bars}"
    return f"{key}|{kind}|{inputs.image_size}|{how}" if key else ""


def key_of(
    ref: MediumRef, kind: MediaKind, inputs: InputSpec, num_frames: int, sampler: FrameSampler, decoder: VideoDecoder
) -> str:
    """The key that `Processor` gives a medium, without decoding it.

    Args:
        ref: Where the medium lies.
        kind: As what the model sees it.
        inputs: The model's demands.
        num_frames: The processor's, for a video that asks for no number of its own.
        sampler: Chooses the frames of a video.
        decoder: Reads them.
    """
    number = ref.num_frames or num_frames
    if is_frames(ref):
        digest = frames_digest(ref, number, sampler)
    else:
        with local_file(ref) as (_, digest):
            pass
    key = digest if ref.kind == "image" else sampled_key(digest, ref, number, sampler, decoder)
    return resized_key(key, kind, inputs)
