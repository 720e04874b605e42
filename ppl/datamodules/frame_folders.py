"""Videos given as their frames: a folder of images, or a list of them.

Axes: t frames | H W pixel rows, columns.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path

import torch

from ppl.datamodules.frame_sampling import FrameSampler, Timeline
from ppl.datamodules.images import read_image
from ppl.datamodules.medium_files import file_key
from ppl.datamodules.records import MediumRef, problem
from ppl.datamodules.video_io import VideoClip

_ROUNDING = 1e-6
"""Of a frame: a time this little before one is that frame's."""
_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def is_frames(ref: MediumRef) -> bool:
    """Tell a video that is given as frames from one that is a file."""
    return ref.kind == "video" and ref.inside is None and (bool(ref.frames) or Path(ref.path).is_dir())


def read_frames(ref: MediumRef, num_frames: int, sampler: FrameSampler) -> tuple[VideoClip, str]:
    """Read the frames that a sampler chooses, as of a file with so many frames at a fixed rate.

    Frame i is on screen from i / fps to (i + 1) / fps. Without a rate, times and duration are unknown: empty and 0.

    Args:
        ref: A video that is given as frames; of a folder, its images in the order of their names, numbers as numbers.
        num_frames: How many to read, or how many at most.
        sampler: Chooses them.

    Returns:
        The clip, and a digest of the chosen frames' content.

    Raises:
        ValueError: No frames, frames of several sizes, or a clip that does not fit or lacks a rate.
    """
    files, indices = _chosen(ref, num_frames, sampler)
    pictures = {index: read_image(files[index]) for index in dict.fromkeys(indices)}
    sizes = {tuple(picture.shape[1:]) for picture in pictures.values()}
    if len(sizes) > 1:
        raise problem(ref.path, f"frames of the sizes {sorted(sizes)}", "one size", "resize them alike")
    times = () if ref.fps is None else tuple(index / ref.fps for index in indices)
    duration = 0.0 if ref.fps is None else len(files) / ref.fps
    clip = VideoClip(torch.stack([pictures[index] for index in indices]), times, duration, ref.fps or 0.0)
    return clip, _digest(files, indices)


def frames_digest(ref: MediumRef, num_frames: int, sampler: FrameSampler) -> str:
    """The digest that `read_frames` returns, without decoding a frame."""
    return _digest(*_chosen(ref, num_frames, sampler))


def _chosen(ref: MediumRef, num_frames: int, sampler: FrameSampler) -> tuple[list[Path], list[int]]:
    """All frames, and the indices of those to read."""
    files = frame_files(ref)
    fps = ref.fps or 1.0
    places = (time * fps for time in sampler.times(_timeline(ref, files, fps), num_frames))
    return files, [min(math.floor(place + _ROUNDING), len(files) - 1) for place in places]


def _digest(files: list[Path], indices: list[int]) -> str:
    told = "|".join(file_key(files[index].resolve()) for index in indices)
    return hashlib.sha256(told.encode()).hexdigest()


def _timeline(ref: MediumRef, files: list[Path], fps: float) -> Timeline:
    if ref.fps is None and (ref.start is not None or ref.end is not None):
        raise problem(ref.path, "a clip of frames without a rate", "frames a second", "add 'fps' to the record")
    duration, first = len(files) / fps, ref.start or 0.0
    last = duration if ref.end is None else min(ref.end, duration)
    if not first < last:
        clip, length = f"a clip [{ref.start}, {ref.end}) s", f"one inside [0, {duration:.3f}) s"
        raise problem(ref.path, clip, length, "fix the times or the rate")
    size = files[0].stat().st_size  # tells it from most others, without a look at every frame
    return Timeline(first, last, duration, fps, size, lambda: [index / fps for index in range(len(files))])


def frame_files(ref: MediumRef) -> list[Path]:
    """List the images that are a video's frames, in order.

    Args:
        ref: A video that is given as frames.

    Raises:
        ValueError: A folder without any.
    """
    return [Path(frame) for frame in ref.frames] or _files(Path(ref.path))


def _files(folder: Path) -> list[Path]:
    found = [file for file in folder.iterdir() if file.suffix.lower() in _ENDINGS and not file.name.startswith(".")]
    if not found:
        raise problem(str(folder), "a folder without images", f"frames: {', '.join(sorted(_ENDINGS))}", "fill it")
    return sorted(found, key=_natural)


def _natural(file: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort 9 before 10, with or without leading zeros."""
    parts = enumerate(re.split(r"(\d+)", file.name))
    return [(int(part), "") if index % 2 else (-1, part) for index, part in parts], file.name
