"""How the blocks (layers) compute: with fewer activations in memory, or compiled. No result depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn
from torch.distributed._composable.checkpoint_activation import checkpoint as checkpoint_module
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from ppl.modules.video_llm import VideoLLM

Blocks = Literal["vision_tower", "language_model", "text_tower"]
"""A part that is a stack of equal blocks."""


@dataclass(frozen=True)
class Execution:
    """Parts whose blocks compute otherwise than plainly, while a trainer runs them.

    Args:
        activation_checkpointing: In training, these keep only the input of each block, and compute the block a second
            time in the backward pass: less memory, about a third more time.
        compile: These are compiled by ``torch.compile``, each block alone, so that the time it takes does not grow
            with their number.
    """

    activation_checkpointing: tuple[Blocks, ...] = ()
    compile: tuple[Blocks, ...] = ()


def blocks_of(part: nn.Module) -> list[nn.Module]:
    """The blocks a part is made of: the members of its outermost ``nn.ModuleList``s, in order."""
    found: list[nn.Module] = []
    for child in part.children():
        found += list(child) if isinstance(child, nn.ModuleList) else blocks_of(child)
    return found


def execute(model: VideoLLM, execution: Execution) -> None:
    """Have blocks compute as asked, in place; no parameter changes its name.

    Raises:
        ValueError: The model lacks a named part, or activations would be dropped that nothing keeps.
    """
    for name in execution.activation_checkpointing:
        part = _part(model, name, "activation_checkpointing")
        if name != "language_model" and not any(p.requires_grad for p in part.parameters()):
            msg = (
                f"got execution.activation_checkpointing of the {name}, which is frozen and keeps no activations; "
                f"expected one that trains: take it from the list, or set model.learning_rates.{name}"
            )
            raise ValueError(msg)
        for block in blocks_of(part):
            _checkpoint(block)
    for name in execution.compile:
        for block in blocks_of(_part(model, name, "compile")):
            block.compile()


def _part(model: VideoLLM, name: Blocks, what: str) -> nn.Module:
    if name == "text_tower":
        if model.aligner is None:
            msg = f"got execution.{what} of the text_tower for a model without an aligner; take it from the list"
            raise ValueError(msg)
        return model.aligner.text_tower
    return model.backbone.vision_tower if name == "vision_tower" else model.backbone.language_model


def _checkpoint(block: nn.Module) -> None:
    """Without reentrance, which would want inputs with gradients."""
    if isinstance(block, GradientCheckpointingLayer):  # it leaves out the cache of keys and values too
        block.gradient_checkpointing = True
        recompute: Any = partial(checkpoint, use_reentrant=False)
        block._gradient_checkpointing_func = recompute
    else:
        checkpoint_module(block)
