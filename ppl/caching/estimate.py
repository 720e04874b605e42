"""How many bytes the features of media take, from the model's sizes alone."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ppl.batches import MediumInfo
from ppl.modules.feature_storage import FeatureFolder, Storage, packed_bytes
from ppl.modules.video_llm import VideoLLM


class Share(NamedTuple):
    """Media of one kind and one number of frames."""

    kind: str
    frames: int
    media: int
    bytes_each: int

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return self.media * self.bytes_each


def medium_bytes(model: VideoLLM, info: MediumInfo, storage: Storage) -> int:
    """Bytes of one medium's features, the aligner's own included; its file has a few hundred more.

    Args:
        model: Its sizes.
        info: The medium.
        storage: Precision that features are kept in.
    """
    layers = model.backbone.hf.config.vision_feature_layer
    width = model.backbone.hf.config.vision_config.hidden_size * (1 if isinstance(layers, int) else len(layers))
    width += model.aligner.own_width if model.aligner is not None else 0
    return packed_bytes(info.num_frames, *model.backbone.frame_size(info.kind), width, storage)


def estimate(model: VideoLLM, infos: Sequence[MediumInfo], storage: Storage) -> list[Share]:
    """Add up what media take, before compression; a video counts with as many frames as are asked for."""
    counts = Counter(info._replace(image_size=(0, 0), key="") for info in infos)
    shares = [
        Share(info.kind, info.num_frames, count, medium_bytes(model, info, storage)) for info, count in counts.items()
    ]
    return sorted(shares)


def check_space(needed: int, folder: FeatureFolder) -> int:
    """Make sure that features fit on the disk, as far as they are not in the folder already.

    Whatever the folder holds is taken for a part of them; should it be another run's and the disk fill up, that is
    told when it happens, and nothing is lost.

    Args:
        needed: Bytes of all.
        folder: Where they go.

    Returns:
        Free bytes.

    Raises:
        ValueError: They do not fit.
    """
    place = next(path for path in (folder.folder.resolve(), *folder.folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    held = folder.num_bytes()
    if folder.compression == "none" and needed - held > free:
        msg = (
            f"got {size(free)} free at {place} (and {size(held)} of features there), expected {size(needed)}: free "
            "some, set --model.cache.storage=int8, or name another folder by --model.cache.folder"
        )
        raise ValueError(msg)
    return free


def size(number: int) -> str:
    """Write bytes in the largest unit that leaves at least one."""
    value, units = float(number), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" else f"{value:.1f} {units[0]}"
