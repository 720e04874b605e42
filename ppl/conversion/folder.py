"""Write a converted model as a folder in the hub's layout, whole or not at all.

Axes: none; tensors pass through whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import split_torch_state_dict_into_shards
from rich.console import Console
from rich.progress import DownloadColumn, Progress
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ppl.conversion.rules import Renamed, check_complete, shapes_of
from ppl.folders import Kind, new_folder

REPORT = "conversion.json"
BACKBONE = "backbone.yaml"
CONVERTED = Kind("converted model", REPORT, "--overwrite")


@dataclass
class Converted:
    """A checkpoint under new names, ready to be checked and written."""

    model: PreTrainedModel
    """The target, on the meta device: it decides config, names and shapes."""
    weights: Renamed
    """Exactly the target's tensors."""
    tokenizer: PreTrainedTokenizerBase
    backbone: dict[str, Any]
    """The part of a recipe that loads the folder (``class_path``, ``init_args`` without ``source``)."""
    assumptions: dict[str, str] = field(default_factory=dict)
    """What the config does not say -> what was taken, and why."""


def write_folder(
    converted: Converted,
    folder: Path,
    account: Mapping[str, Any],
    dtype: torch.dtype | None = None,
    *,
    overwrite: bool = False,
    max_shard_size: int | str = "5GB",
) -> None:
    """Write config, tokenizer, weights in shards, the recipe's part and the report of what came from where.

    Only one shard is in memory at a time. The folder appears under its name when it is complete.

    Args:
        converted: What to write.
        folder: Where to.
        account: What the report says besides names: source, kind, versions.
        dtype: Precision of floating-point tensors; None: as they are.
        overwrite: Replace a folder that was converted before; any other folder is refused all the same.
        max_shard_size: Bytes (or ``"5GB"``) a file of weights has at most.

    Raises:
        ValueError: The folder exists, or the tensors are not the model's.
    """
    check_complete(converted.weights.tensors, shapes_of(converted.model), type(converted.model).__name__)
    with new_folder(folder, CONVERTED, overwrite=overwrite) as partial:
        _write_texts(converted, partial, folder, account, dtype)
        _write_tensors(converted, partial, dtype, max_shard_size)


def _write_texts(
    converted: Converted, partial: Path, folder: Path, account: Mapping[str, Any], dtype: torch.dtype | None
) -> None:
    config = converted.model.config
    config.architectures = [type(converted.model).__name__]
    config.dtype = dtype or next(t.dtype for t in converted.weights.tensors.values() if t.is_floating_point())
    config.save_pretrained(partial)
    converted.tokenizer.save_pretrained(partial)
    part = converted.backbone | {"init_args": {"source": str(folder)} | converted.backbone.get("init_args", {})}
    (partial / BACKBONE).write_text(yaml.safe_dump(part, sort_keys=False))
    weights = converted.weights
    said = {"assumptions": converted.assumptions, "tensors": weights.origins, "dropped": weights.dropped}
    (partial / REPORT).write_text(json.dumps({**account, **said}, indent=2) + "\n")


def _write_tensors(converted: Converted, partial: Path, dtype: torch.dtype | None, max_shard_size: int | str) -> None:
    weights = converted.weights.tensors
    plan = split_torch_state_dict_into_shards(
        {
            name: torch.empty_like(tensor, dtype=_precision(tensor, dtype), device="meta")
            for name, tensor in weights.items()
        },
        max_shard_size=max_shard_size,
        filename_pattern="model{suffix}.safetensors",
    )
    total = sum(tensor.nbytes for tensor in weights.values())
    with Progress(*Progress.get_default_columns(), DownloadColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("writing", total=total)
        for name, keys in plan.filename_to_tensors.items():
            shard = {key: weights[key].to(_precision(weights[key], dtype)).contiguous() for key in keys}
            save_file(shard, partial / name, metadata={"format": "pt"})
            progress.advance(task, sum(weights[key].nbytes for key in keys))
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (partial / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _precision(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
