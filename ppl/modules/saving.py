"""What a checkpoint holds: all weights, or those that trained beside the name of the base that the others come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ppl.modules.backbones.identity import base_identity
from ppl.modules.lora import lora_parameters

if TYPE_CHECKING:
    from ppl.modules.tuning import TuningModule

BACKBONE = "model.backbone.hf."
"""What the names of transformers' own weights begin with in a checkpoint."""


@dataclass(frozen=True)
class Saving:
    """What a checkpoint holds of the backbone's weights that do not train.

    Without them it names their source with a digest, and whoever reads it must have that source. The default is what
    users of LoRA know: checkpoints of the size of what trained. Whatever the aligner has is always held.

    Args:
        frozen: ``keep`` holds all of them; ``leave_out`` none; ``auto`` leaves them out of runs with LoRA if the
            backbone's weights were read (``initialize: pretrained``) and one process holds the model whole, which under
            FSDP none does.
    """

    frozen: Literal["auto", "keep", "leave_out"] = "auto"


def base_of(module: TuningModule) -> dict[str, Any] | None:
    """The identity of the weights a run began with, and the names of those that stay so; None if no source has them.

    A vision tower that an alignment file was read into is no longer the source's.
    """
    if module.base_identity is not None:
        return module.base_identity
    known = module.has_base and module.started_from is None  # else no source has them
    recipe = module.hparams.get("backbone") if known else None
    if not isinstance(recipe, Mapping):  # built in Python: there is no recipe to read
        return None
    arguments = recipe.get("init_args", {})
    if arguments.get("initialize", "pretrained") != "pretrained":
        return None
    trained = {name for name, p in module.named_parameters(remove_duplicate=False) if p.requires_grad}
    towers = module.model.backbone.spec.towers if module.hparams.get("alignment") is not None else []
    changed = tuple(f"{BACKBONE}model.{tower}." for tower in towers)
    names = [name for name in base_names(module.state_dict()) if name not in trained and not name.startswith(changed)]
    identity = base_identity(arguments["source"], arguments.get("revision", "main"))
    module.base_identity = {**identity, "frozen": names}
    return module.base_identity


def base_names(names: Iterable[str]) -> list[str]:
    """Of a checkpoint's names, those of the weights that a backbone's source has."""
    return [name for name in names if name.startswith(BACKBONE) and ".lora_" not in name]


def leaves_out(module: TuningModule) -> bool:
    """Whether the checkpoints of this run do without what does not train.

    Raises:
        ValueError: They are to, but nothing says where the base is, or the strategy restores only what is whole.
    """
    frozen = module.saving.frozen
    if frozen == "keep" or (frozen == "auto" and not lora_parameters(module.model.backbone.language_model)):
        return False
    trainer = module._trainer  # the property raises without one
    whole = trainer is None or not trainer.strategy.restore_checkpoint_after_setup
    possible = whole and base_of(module) is not None
    if frozen == "leave_out" and not possible:
        why = "weights that a recipe's backbone reads (initialize: pretrained)" if whole else "a strategy without FSDP"
        msg = f"got saving.frozen=leave_out, expected it with {why}, to be rebuilt: set model.saving.frozen=keep"
        raise ValueError(msg)
    return possible


def save_base(module: TuningModule, checkpoint: dict[str, Any]) -> None:
    """Name the base in a checkpoint, and take out what it has, if it is to be left out."""
    base = base_of(module)
    checkpoint["ppl"]["base"] = base
    if base is not None and "state_dict" in checkpoint and leaves_out(module):
        frozen = set(base["frozen"])
        for part in {"state_dict", "current_model_state"} & checkpoint.keys():  # the latter where weights are averaged
            checkpoint[part] = {name: tensor for name, tensor in checkpoint[part].items() if name not in frozen}


def take_over_base(module: TuningModule, checkpoint: Mapping[str, Any]) -> None:
    """Have a module that gets a checkpoint's weights name the base that the checkpoint names, or none if it names none.

    What the module itself began with no longer counts: ``--ckpt_path`` goes on with a run without its ``--init_from``.
    """
    base = checkpoint["ppl"].get("base")
    module.has_base, module.base_identity = base is not None, None
    if base is not None:
        frozen = left_out(checkpoint, module.state_dict()) if base["frozen"] is None else base["frozen"]
        trained = {name for name, p in module.named_parameters(remove_duplicate=False) if p.requires_grad}
        module.base_identity = {**base, "frozen": [name for name in frozen if name not in trained]}


def left_out(checkpoint: Mapping[str, Any], names: Iterable[str]) -> set[str]:
    """Of a model's names, those that a checkpoint leaves to its base."""
    base = checkpoint["ppl"].get("base")
    if base is None:
        return set()
    frozen = base_names(names) if base["frozen"] is None else base["frozen"]
    return set(frozen) - checkpoint["state_dict"].keys()


def check_base(module: TuningModule, checkpoint: Mapping[str, Any]) -> bool:
    """Make sure that what a checkpoint leaves out is what the model has already.

    Returns:
        Whether anything is left out.

    Raises:
        ValueError: The model began with other weights, or the names are not the model's.
    """
    names = module.state_dict().keys()
    if "state_dict" not in checkpoint:  # the strategy has read it: nothing is left out under those that do
        return False
    absent = left_out(checkpoint, names)
    if not absent:
        return False
    expected, got = checkpoint["ppl"]["base"], base_of(module)
    if got is None or got["digest"] != expected["digest"]:
        what = (
            "weights that no source has"
            if got is None
            else f"the weights of {got['source']} (digest {got['digest'][:12]})"
        )
        msg = (
            f"the checkpoint holds what trained upon {expected['source']} at revision {expected['revision']} (digest "
            f"{expected['digest'][:12]}), but this backbone has {what}; give it the same source and revision"
        )
        raise ValueError(msg)
    problems = {
        "Missing": sorted(names - checkpoint["state_dict"].keys() - absent),
        "Unexpected": sorted(checkpoint["state_dict"].keys() - names),
    }
    if any(problems.values()):
        lines = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys)
        msg = f"the weights in the checkpoint are not those of the model its recipe describes: {lines}"
        raise ValueError(msg)
    return True
