"""Begin a run with the model of another: what a second stage and preference tuning start from."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_warn

from ppl.checkpoints import load
from ppl.modules.backbones.mismatches import mismatches
from ppl.modules.lora import lora_parameters, merge_lora
from ppl.modules.tuning import TuningModule


def start_from(module: TuningModule, path: str | Path) -> None:
    """Give a module that is about to train the weights of a checkpoint; its optimiser and its steps begin anew.

    Adapters of the checkpoint are merged into its weights; those of the module stay new. Nothing else of the checkpoint
    is taken over: a difference in how the two pool or what they are asked is told in a warning.

    Args:
        module: A model of the same parts.
        path: A file of ``ppl fit``, a folder of shards, or a folder of ``ppl export``.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: Its weights are not exactly the module's; the message lists them.
    """
    source = load(path)
    if lora_parameters(source.model.backbone.language_model):
        merge_lora(source.model.backbone)
    stored = source.model.state_dict()
    own = {n.replace(".base_layer", ""): t for n, t in module.model.state_dict().items() if ".lora_" not in n}
    problems = mismatches("checkpoint", stored, own)
    if problems:
        lines = "\n".join(f"  {line}" for line in problems)
        msg = (
            f"the weights of init_from={str(path)!r} are not those of this model; give it the checkpoint's backbone, "
            f"aligner and positions:\n{lines}"
        )
        raise ValueError(msg)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(stored[name])
    module.started_from = str(path)
    module.conversation = source.conversation
    differences = _differences(source, module)
    if differences:
        rank_zero_warn(f"{path} was trained otherwise than this run: {'; '.join(differences)}")


def _differences(source: TuningModule, module: TuningModule) -> list[str]:
    """How visual tokens are made, where the two recipes do not agree."""
    found = []
    for name in ("pooler", "positions", "pool_site"):
        before, now = source.hparams.get(name), module.hparams.get(name)
        if before != now:
            found.append(f"{name} was {before}, is {now}")
    return found
