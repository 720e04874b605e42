"""Decode one medium: an image, a video, or the frames that a video is given as.

Axes: t frames | H W pixel rows, columns.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.frame_folders import is_frames, read_frames
from ppl.datamodules.frame_sampling import FrameSampler
from ppl.datamodules.images import read_image
from ppl.datamodules.medium_files import local_file
from ppl.datamodules.medium_keys import sampled_key
from ppl.datamodules.records import MediumRef, problem


class DecodedMedium(NamedTuple):
    """Pixels of one medium before resizing."""

    kind: Literal["image", "video"]
    frames: UInt8[Tensor, "t 3 H W"]
    """An image is one frame."""
    key: str
    """Stable identity of these pixels, for feature caches; empty means: do not cache."""
    times: tuple[float, ...] = ()
    """When each frame of a video appears, in seconds; empty: unknown."""
    duration: float = 0.0
    """Seconds of the whole video."""
    fps: float = 0.0
    """Average number of its frames in a second; 0: unknown."""


def read_medium(ref: MediumRef, num_frames: int, sampler: FrameSampler, decoder: VideoDecoder) -> DecodedMedium:
    """Decode a medium from disk, or out of the file it lies inside.

    Args:
        ref: The medium; its own ``num_frames`` is not looked at.
        num_frames: Frames of a video, or the most of them, as the sampler has it.
        sampler: Chooses them.
        decoder: Reads video files.

    Raises:
        ValueError: What is there is not such a medium.
        FileNotFoundError: Nothing is there.
    """
    if is_frames(ref):
        clip, digest = read_frames(ref, num_frames, sampler)
    else:
        with local_file(ref) as (path, digest):
            if ref.kind == "image":
                return DecodedMedium("image", read_image(path)[None], digest)
            if ref.fps is not None:
                raise problem(ref.path, f"fps {ref.fps} on a video file", "a rate for frames only", "remove 'fps'")
            clip = decoder.read(path, sampler, num_frames, ref.start, ref.end)
    key = sampled_key(digest, ref, num_frames, sampler, decoder)
    return DecodedMedium("video", clip.frames, key, clip.timestamps, clip.duration, clip.fps)
