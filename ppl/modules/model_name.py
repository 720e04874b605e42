"""Name what answers: where it came from, for people, and a digest of all that decides its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ppl.modules.model_identity import model_identity

if TYPE_CHECKING:
    from ppl.modules.tuning import TuningModule


def model_name(module: TuningModule, settings: str) -> str:
    """Such as ``tiny_sft/last 1f0c94b2a7d3``: the same for all processes, and no path of a machine.

    The digest is of weights, pooling, precision and how answers are generated; not of how long they may be.

    Args:
        module: Under a trainer that has restored its weights.
        settings: What else decides answers, of the data: the chat template.
    """
    trainer = module.trainer
    generation = replace(module.generation, max_new_tokens=1)
    digest = model_identity(module.model, f"{trainer.precision}|{generation}|{settings}")
    path = trainer.ckpt_path or module.loaded_from or module.started_from
    return f"{_source(module) if path is None else _run_of(Path(path))} {digest[:12]}"


def _run_of(path: Path) -> str:
    """Name of a checkpoint and of the folder of its run."""
    path = path.absolute()
    names = [part for part in path.with_name(path.name.removesuffix(".ckpt")).parts[1:] if part != "checkpoints"]
    return "/".join(names[-2:])


def _source(module: TuningModule) -> str:
    """What a recipe without a checkpoint answers with: its backbone."""
    recipe = module.hparams.get("backbone")
    if not isinstance(recipe, Mapping):  # built in Python
        return type(module.model.backbone).__name__
    return Path(str(recipe.get("init_args", {}).get("source"))).name
