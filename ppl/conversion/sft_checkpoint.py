"""Write a converted model as a checkpoint like those of `ppl fit`, whole or not at all.

Axes: none; tensors pass through whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
import transformers
import yaml

from ppl.conversion.folder import CONVERTED, REPORT
from ppl.conversion.rules import Renamed, check_complete, shapes_of
from ppl.folders import check_absent, new_folder
from ppl.modules.sft import SFTModule
from ppl.modules.video_llm import VideoLLM

CHECKPOINT, RECIPE = "last.ckpt", "recipe.yaml"
_SFT = f"{SFTModule.__module__}.{SFTModule.__qualname__}"


@dataclass
class ConvertedModel:
    """A checkpoint under `SFTModule`'s names, ready to be checked and written."""

    model: VideoLLM
    """Decides names and shapes; its own weights are not looked at."""
    weights: Renamed
    """Exactly the model's tensors, behind ``model.``."""
    recipe: dict[str, Any]
    """`SFTModule`'s arguments; backbone and aligner are read from folders of those names."""
    files: dict[str, str]
    """What `VideoLLM.files` says."""
    conversation: dict[str, Any]
    """`Processor`'s arguments: how the model was trained to be talked to."""


def write_checkpoint(
    converted: ConvertedModel,
    folder: Path,
    account: Mapping[str, Any],
    dtype: torch.dtype | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write the checkpoint, its recipe, the files that names, and the report of what came from where.

    The checkpoint alone is enough for `ppl chat`; ``ppl validate -c FOLDER/recipe.yaml --data=… --ckpt_path=…`` and
    its like read the recipe, which names folders beside itself.

    Args:
        converted: What to write.
        folder: Where to; it appears when it is complete. The recipe names it so: relative stays relative.
        account: What the report says besides names: source, kind, versions.
        dtype: Precision of floating-point tensors; None: as they are.
        overwrite: Replace a folder that was converted before; any other folder is refused all the same.

    Raises:
        ValueError: The folder exists, or the tensors are not the model's.
    """
    check_absent(folder, CONVERTED, overwrite=overwrite)  # before what takes long
    shapes = {f"model.{name}": shape for name, shape in shapes_of(converted.model).items()}
    check_complete(converted.weights.tensors, shapes, "the model")
    weights = converted.weights
    report = {**account, "tensors": weights.origins, "dropped": weights.dropped}
    recipe = _recipe(converted, folder, dtype)
    model = {"class_path": _SFT, "init_args": recipe}
    texts = {REPORT: json.dumps(report, indent=2) + "\n", RECIPE: yaml.safe_dump({"model": model}, sort_keys=False)}
    with new_folder(folder, CONVERTED, overwrite=overwrite) as partial:
        torch.save(_checkpoint(converted, recipe, dtype), partial / CHECKPOINT)
        for name, text in (converted.files | texts).items():
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_text(text)


def _recipe(converted: ConvertedModel, folder: Path, dtype: torch.dtype | None) -> dict[str, Any]:
    """`SFTModule`'s arguments with the places and the precision that were written."""
    recipe = deepcopy(converted.recipe)
    recipe["backbone"]["init_args"]["source"] = str(folder / "backbone")
    recipe["aligner"]["init_args"]["architecture"] = f"local-dir:{folder / 'aligner'}"
    if dtype is not None:
        recipe["backbone"]["init_args"]["dtype"] = str(dtype).removeprefix("torch.")
    return recipe


def _checkpoint(converted: ConvertedModel, recipe: dict[str, Any], dtype: torch.dtype | None) -> dict[str, Any]:
    return {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": {
            name: tensor.to(dtype if dtype and tensor.is_floating_point() else tensor.dtype).contiguous()
            for name, tensor in converted.weights.tensors.items()
        },
        "hyper_parameters": {"_class_path": _SFT, **recipe},
        "ppl": {
            "files": converted.files,
            "conversation": converted.conversation,
            "transformers": transformers.__version__,
        },
    }
