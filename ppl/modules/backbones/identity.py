"""Which weights a folder or a repository holds, told by a digest that reads little of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ppl.modules.backbones.hub import INDEX, WEIGHTS, local_folder

SLICES = 16
"""Slices, evenly spread over its first axis, that are read of each tensor."""


def base_identity(source: str, revision: str) -> dict[str, str]:
    """Say which weights a source holds: ``source``, ``revision`` and ``digest``.

    The revision of a hub id is the commit that was found. The digest covers name, shape and precision of every tensor
    and 16 slices of its values: weights that were trained, merged, converted or rounded have another one, and the same
    weights in other shards the same; a change of few values may be missed.

    Args:
        source: Hub id, or folder in the hub's layout.
        revision: Branch, tag or commit of a hub id.

    Raises:
        FileNotFoundError: The weights are not to be had.
    """
    folder = local_folder(source, revision, weights=True)
    commit = revision if Path(source).is_dir() else folder.name
    return {"source": source, "revision": commit, "digest": weights_digest(folder)}


def weights_digest(folder: Path) -> str:
    """The digest of a folder's safetensors; see `base_identity`."""
    names = {WEIGHTS}
    if (folder / INDEX).is_file():
        names = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
    parts: dict[str, bytes] = {}
    for name in names:
        with safe_open(folder / name, "pt") as file:
            parts |= {key: _part(file.get_slice(key)) for key in file.keys()}  # noqa: SIM118  not a dictionary
    digest = hashlib.sha256()
    for key in sorted(parts):
        digest.update(key.encode() + b"\0" + parts[key])
    return digest.hexdigest()


def _part(tensor: Any) -> bytes:  # noqa: ANN401  safetensors declares no type for slices
    shape = tuple(tensor.get_shape())
    digest = hashlib.sha256(f"{shape} {tensor.get_dtype()}".encode())
    last = (shape[0] if shape else 1) - 1
    for at in sorted({last * i // (SLICES - 1) for i in range(SLICES)}) if 0 not in shape else ():
        values = tensor[at : at + 1] if shape else tensor[...]
        digest.update(values.contiguous().flatten().view(torch.uint8).numpy())
    return digest.digest()
