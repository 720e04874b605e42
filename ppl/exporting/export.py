"""``ppl export``: a checkpoint becomes a folder that transformers, peft and `ppl` open."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file

from ppl.checkpoint_files import DESCRIPTION, OTHERS
from ppl.checkpoints import load
from ppl.exporting.adapter import trained_weights, write_adapter
from ppl.exporting.whole import check_whole, other_weights, write_whole
from ppl.folders import Kind, check_absent, new_folder
from ppl.modules.backbones.loading import only_a_bar
from ppl.modules.lora import lora_parameters
from ppl.modules.tuning import TuningModule

EXPORTED = Kind("exported model", DESCRIPTION, "--force")


def run_export(options: argparse.Namespace) -> None:
    """Export ``options.checkpoint`` to ``options.output``, and to the hub if asked.

    Raises:
        FileNotFoundError: The checkpoint or its base is not there.
        ValueError: The checkpoint is not as expected, or the folder exists.
    """
    folder = Path(options.output)
    console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    with console.status("reading the checkpoint") as status:
        whole = export(
            options.checkpoint,
            folder,
            merge=options.merge,
            overwrite=options.force,
            max_shard_size=options.max_shard_size,
            base=options.base,
            say=status.update,
        )
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    what = "the whole model" if whole else "adapters and what trained beside them"
    console.print(f"{what} written to {folder} ({size / 2**20:,.1f} MiB), read again and found the same")
    console.print(f"  ppl chat --checkpoint {folder} VIDEO QUESTION")
    if options.push_to_hub is not None:
        from huggingface_hub import HfApi

        with console.status(f"sending it to {options.push_to_hub}"):
            HfApi().create_repo(options.push_to_hub, exist_ok=True, private=True)
            HfApi().upload_folder(repo_id=options.push_to_hub, folder_path=folder)


def export(
    checkpoint: str | Path,
    folder: Path,
    *,
    merge: bool = False,
    overwrite: bool = False,
    max_shard_size: int | str = "5GB",
    base: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> bool:
    """Write a checkpoint as a folder, which appears when it is complete and has been read again.

    The whole model is written if adapters are merged, or if there are none; otherwise what trained, with the name of
    the base. The weights are in memory once at most.

    Args:
        checkpoint: What `ppl.checkpoints.read_checkpoint` takes.
        folder: Where to.
        merge: Add adapters to the weights.
        overwrite: Replace a folder that was exported before; any other is refused all the same.
        max_shard_size: Bytes (or ``"5GB"``) a file of the backbone's weights has at most.
        base: Where the base is, if no longer at its source.
        say: Called with what is being done.

    Returns:
        Whether the whole model was written.

    Raises:
        FileNotFoundError: The checkpoint or its base is not there.
        ValueError: The checkpoint is not as expected, or the folder exists.
        OSError: Something else was read than written.
    """
    check_absent(folder, EXPORTED, overwrite=overwrite)  # before what takes long
    if isinstance(max_shard_size, str) and not re.fullmatch(r"[0-9.]*[0-9] *[KMGT]B", max_shard_size, re.IGNORECASE):
        msg = f"got --max-shard-size {max_shard_size}, expected a number and KB, MB, GB or TB, such as 5GB"
        raise ValueError(msg)
    module = load(checkpoint, base).requires_grad_(requires_grad=False)
    whole = merge or not lora_parameters(module.model.backbone.language_model)
    with new_folder(folder, EXPORTED, overwrite=overwrite) as partial, only_a_bar():
        say("merging and writing" if merge else "writing")
        if whole:
            write_whole(module, partial, folder, max_shard_size)
        else:
            write_adapter(module, partial, folder)
        say("reading again")
        if whole:
            check_whole(module, partial)
        _check_files(module, partial, whole=whole)
    return whole


def _check_files(module: TuningModule, partial: Path, *, whole: bool) -> None:
    for name, tensors in ({OTHERS: other_weights(module)} if whole else trained_weights(module)).items():
        read = load_file(partial / name) if tensors else {}
        if read.keys() != tensors.keys() or not all(torch.equal(read[key], t.cpu()) for key, t in tensors.items()):
            msg = f"what was written to {name} is not what was to be: the disk or its driver fails; export again"
            raise OSError(msg)
