"""Keep the frozen vision tower's output, so that epochs, second questions and other runs do not compute it again.

Axes: t h w frames, rows, columns | c channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from ppl.batches import KeptFeatures, MediumInfo
from ppl.modules.feature_storage import Compression, FeatureFolder, Packed, Storage, pack, unpack


@dataclass(frozen=True)
class Caching:
    """Where the frozen vision tower's features are kept between epochs and runs.

    Args:
        memory_gib: Host memory to use at most, in GiB; 0: only the folder.
        folder: Folder to keep them in as well, shared with other runs and processes; null: only memory.
        storage: Precision of what is kept. ``int8`` has a scale for each channel of a medium, and errors of at most
            1/254 of that channel's largest size.
        compression: Of files; ``none`` maps them into memory instead of reading them.

    Raises:
        ValueError: There is neither memory nor a folder, or the folder is named as nothing is.
    """

    memory_gib: float = 0.0
    folder: str | None = None
    storage: Storage = "float16"
    compression: Compression = "none"

    def __post_init__(self) -> None:
        """Check the values."""
        if self.memory_gib < 0 or (self.memory_gib == 0 and self.folder is None):
            msg = (
                f"got cache.memory_gib {self.memory_gib:g} and no cache.folder, expected a positive size, a folder or "
                "both; cache: null keeps nothing"
            )
            raise ValueError(msg)
        if self.folder == "None":  # what jsonargparse 4.53 makes of null inside an optional dataclass
            msg = (
                "got cache.folder 'None', expected a folder's path: to keep features in memory alone, give all of the "
                "cache at once, --model.cache='{memory_gib: 1.0, folder: null}', and nowhere, --model.cache=null"
            )
            raise ValueError(msg)


class FeatureCache:
    """Patch grids in host memory, and in a folder if one is given, by key.

    Runs that share a folder share what they compute: cells of an ablation, say. What neither memory nor the folder
    holds, for want of room or because values overflow the precision, is encoded each time and counted in
    ``num_refused``.

    Args:
        caching: Where to keep grids, and how.
    """

    def __init__(self, caching: Caching) -> None:
        self.caching = caching
        self.max_bytes = int(caching.memory_gib * 2**30)
        self.folder = None
        if caching.folder is not None:
            self.folder = FeatureFolder(caching.folder, caching.storage, caching.compression)
        self.num_bytes = 0
        self.num_refused = 0
        self._grids: dict[str, Packed] = {}

    def get(self, key: str) -> Float[Tensor, "t h w c"] | None:
        """The grid kept under ``key``, in the cache's own precision; from int8, in float32."""
        packed = self._grids.get(key)
        if packed is None and key and self.folder is not None:
            packed = self.folder.read(key)
            if packed is not None and self._has_room(packed):
                packed = self._remember(key, {name: tensor.clone() for name, tensor in packed.items()})
        return None if packed is None else unpack(packed)

    def put(self, key: str, grid: Float[Tensor, "t h w c"]) -> Float[Tensor, "t h w c"]:
        """Keep a grid, and return what `get` will: the first epoch sees the same rounding as the others.

        An empty key is never kept; what is not kept is returned as it came.
        """
        known = self.get(key)
        if not key or known is not None:
            return grid if known is None else known
        packed = pack(grid, self.caching.storage)
        if packed is None or (self.folder is None and not self._has_room(packed)):
            self.num_refused += 1
            return grid
        if self.folder is not None:
            self.folder.write(key, packed)
        if self._has_room(packed):
            self._remember(key, packed)
        return unpack(packed)

    def kept_of(self, tower: str) -> KeptFeatures | None:
        """What data loaders may ask for: the features that a tower left in the folder; None without a folder."""
        folder = self.folder
        return None if folder is None else KeptFeatures(str(folder.folder), partial(_is_whole, folder, tower))

    def __len__(self) -> int:
        """Count the grids in memory."""
        return len(self._grids)

    def _has_room(self, packed: Packed) -> bool:
        return self.num_bytes + _size(packed) <= self.max_bytes

    def _remember(self, key: str, packed: Packed) -> Packed:
        self._grids[key] = packed
        self.num_bytes += _size(packed)
        return packed


def check_pixels(media: Sequence[MediumInfo]) -> None:
    """Refuse to encode media that were left undecoded, as their features were there.

    Raises:
        ValueError: They are gone since.
    """
    for medium in media:
        if not medium.has_pixels:
            msg = (
                f"got no features of {medium.key!r}, expected them in the cache's folder, where they were when the "
                "batch was loaded: do not remove features while a run goes on; start it again with --ckpt_path"
            )
            raise ValueError(msg)


def _is_whole(folder: FeatureFolder, tower: str, key: str) -> bool:
    return folder.read(f"{tower}|{key}") is not None


def _size(packed: Packed) -> int:
    return sum(tensor.nbytes for tensor in packed.values())
