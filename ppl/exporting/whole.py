"""A tuned model as a folder in the hub's own layout, adapters merged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import try_to_load_from_cache
from torch import Tensor

from ppl.checkpoint_files import OTHERS
from ppl.exporting.description import recipe_of, write_card, write_description
from ppl.modules.backbones.identity import weights_digest
from ppl.modules.lora import merge_lora
from ppl.modules.saving import BACKBONE
from ppl.modules.tuning import TuningModule

PROCESSOR = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
    "chat_template.jinja",
)
"""Files of transformers' processors, which `ppl` does not need and hands on where the backbone's source has them."""


def write_whole(module: TuningModule, partial: Path, folder: Path, max_shard_size: int | str) -> None:
    """Merge adapters into the model's weights, in place, and write all of it.

    Args:
        module: The model; it has no adapters afterwards.
        partial: Where to write.
        folder: What the folder will be called.
        max_shard_size: Bytes (or ``"5GB"``) a file of the backbone's weights has at most.
    """
    backbone = module.model.backbone
    merge_lora(backbone)
    backbone.hf.save_pretrained(partial, max_shard_size=max_shard_size)
    backbone.tokenizer.save_pretrained(partial)
    recipe = recipe_of(module)
    _hand_on(recipe["backbone"]["init_args"], partial)
    recipe["lora"] = None
    own: dict[str, str | None] = {"source": str(folder), "initialize": "pretrained", "revision": "main"}
    if recipe["backbone"]["init_args"].get("quantization") is not None:
        own["quantization"] = None
    recipe["backbone"]["init_args"] |= own
    (partial / "backbone.yaml").write_text(yaml.safe_dump(recipe["backbone"], sort_keys=False))
    base = {"source": None, "revision": "main", "digest": weights_digest(partial)}
    write_description(module, partial, recipe, base, {OTHERS: other_weights(module)})
    write_card(module, partial, folder.name, None)


def check_whole(module: TuningModule, partial: Path) -> None:
    """Read the backbone again as plain transformers does, as pages of the files, and compare it bit by bit.

    Raises:
        OSError: Something else came back.
    """
    ours: Any = module.model.backbone.hf
    theirs, report = type(ours).from_pretrained(partial, dtype=ours.dtype, output_loading_info=True)
    wrong = {name for keys in report.values() for name in map(str, keys)}
    read = theirs.state_dict()
    wrong |= {name for name, tensor in ours.state_dict().items() if not _same(read.get(name), tensor)}
    if wrong:
        msg = f"what was written is not what was to be ({', '.join(sorted(wrong)[:5])} …): the disk or its driver fails"
        raise OSError(msg)


def other_weights(module: TuningModule) -> dict[str, Tensor]:
    """The weights that transformers' class has no place for: the aligner's, a BT-Adapter's."""
    return {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(BACKBONE)}


def _same(read: Tensor | None, tensor: Tensor) -> bool:
    return read is not None and read.dtype == tensor.dtype and torch.equal(read, tensor.cpu())


def _hand_on(source: dict[str, Any], partial: Path) -> None:
    """Copy a processor's files from the backbone's source, if they are on this machine."""
    for name in PROCESSOR:
        found: Any = Path(source["source"]) / name
        if not found.is_file():
            try:
                found = try_to_load_from_cache(source["source"], name, revision=source.get("revision", "main"))
            except ValueError:  # the source is a folder, and no hub id
                continue
        if isinstance(found, str | Path) and not (partial / name).exists():
            shutil.copyfile(found, partial / name)
