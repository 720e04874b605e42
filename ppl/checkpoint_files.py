"""What a checkpoint may be on disk: a file of `ppl fit`, a folder of shards, or a folder that `ppl export` wrote.

Axes: none; tensors pass through whole.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from ppl.modules.saving import BACKBONE
from ppl.saving.harmless import read_description, read_file

REST = "meta.pt"
"""File of a folder of shards: what is no tensor."""
DESCRIPTION = "ppl.yaml"
"""File of an exported folder: recipe, conversation, base, and which of the files below there are."""
PROJECTOR, OTHERS, ADAPTER = "projector.safetensors", "ppl.safetensors", "adapter/adapter_model.safetensors"
"""Weights under transformers' names, weights that transformers' class has no place for, and peft's."""
_KEYS = {"model", "base", "conversation", "transformers", "files"}
"""Of that description."""
_STATES = ("state_dict.", "model.")
"""What names of weights begin with in shards that Lightning's FSDP2 and FSDP strategies wrote."""
_PEFT = "base_model.model."


def read_shards(folder: Path) -> dict[str, Any]:
    """Join the weights of a sharded checkpoint in memory, once; states of optimisers are not read.

    Raises:
        ValueError: The folder's description holds more than places and shapes of tensors, or no weights.
    """
    places = read_description(folder).state_dict_metadata
    start = next((start for start in _STATES if any(name.startswith(start) for name in places)), None)
    if start is None or not (folder / REST).is_file():
        msg = f"{folder} holds no checkpoint of `ppl fit` in shards (no weights, or no {REST}); name another"
        raise ValueError(msg)
    state = {
        name: torch.empty(place.size, dtype=place.properties.dtype)
        for name, place in places.items()
        if name.startswith(start) and isinstance(place, TensorStorageMetadata)
    }
    with warnings.catch_warnings():  # it is said what was asked for: one process reads all
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(state, storage_reader=FileSystemReader(folder), no_dist=True)
    rest = read_file(folder / REST)
    return {**rest, "state_dict": {name.removeprefix(start): tensor for name, tensor in state.items()}}


def read_exported(folder: Path) -> dict[str, Any]:
    """An exported folder as the checkpoint it was, whose frozen weights are left to the folder itself or to its base.

    Raises:
        FileNotFoundError: A file of it is missing.
        ValueError: Its description is not what `ppl export` writes.
    """
    description = _description(folder / DESCRIPTION)
    missing = [name for name in description["files"] if not (folder / name).is_file()]
    if missing:
        msg = f"{folder} lacks {', '.join(missing)}, which {DESCRIPTION} lists: export again, or fetch the whole folder"
        raise FileNotFoundError(msg)
    state: dict[str, Tensor] = {}
    for name in description["files"]:
        state |= {_named(key, name): tensor for key, tensor in load_file(folder / name).items()}
    arguments = description["model"]["init_args"]
    base = description["base"]
    if base["source"] is None:  # the folder is its own base, wherever it was moved
        base = {**base, "source": str(folder)}
        arguments["backbone"]["init_args"]["source"] = str(folder)
    texts = sorted(file for file in folder.glob("aligner/**/*") if file.is_file())
    return {
        "hyper_parameters": {"_class_path": description["model"]["class_path"], **arguments},
        "ppl": {
            "files": {file.relative_to(folder).as_posix(): file.read_text() for file in texts},
            "conversation": description["conversation"],
            "transformers": description["transformers"],
            "base": base,
        },
        "state_dict": state,
    }


def _description(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        found, why = None, f"no YAML: {' '.join(str(error).split())}"
    else:
        why = f"a {type(found).__name__} that lacks some of them"
    if not isinstance(found, dict) or not found.keys() >= _KEYS:
        msg = f"got {file} ({why}), expected {', '.join(sorted(_KEYS))}, as `ppl export` writes them: export again"
        raise ValueError(msg)
    return found


def _named(key: str, file: str) -> str:
    """A tensor's name in a checkpoint."""
    if file == PROJECTOR:
        return BACKBONE + key
    if file == ADAPTER:
        long = re.sub(r"(\.lora_magnitude_vector|\.lora_[AB])(\.weight)?$", r"\1.default.weight", key)
        return BACKBONE + long.removeprefix(_PEFT)
    return key
