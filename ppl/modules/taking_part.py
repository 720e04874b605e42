"""Every process takes part in every collective, whatever its batch holds: what it leaves idle computes zeros.

Axes: b l d rows, positions, channels of a batch's embeddings | f frames | H W pixels | t h w c a medium's grid.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

from ppl.batches import MediaKind, MediumInfo
from ppl.modules.backbones.base import Backbone
from ppl.modules.gathering import is_distributed

_SHARDED = (FSDPModule, FullyShardedDataParallel)
_BLANK_FRAMES = 8
"""Frames of a blank video: a whole clip of every tower."""


def is_sharded(part: nn.Module) -> bool:
    """Whether some of a part's modules gather their own weights each time they are called."""
    return any(isinstance(module, _SHARDED) for module in part.modules())


def with_blanks(
    backbone: Backbone, pixels: UInt8[Tensor, "f 3 H W"], media: list[MediumInfo]
) -> tuple[UInt8[Tensor, "g 3 H W"], list[MediumInfo]]:
    """Add a black medium for each sharded vision tower that a batch leaves idle, behind the others.

    On another process it may not be idle, which then waits for this one's share of the weights.
    """
    seen = {backbone.spec.tower(medium.kind) for medium in media}
    side = backbone.image_size
    kinds: tuple[MediaKind, ...] = ("video", "image")
    for kind in kinds:
        tower = backbone.spec.tower(kind)
        if tower not in seen and is_sharded(getattr(backbone.hf.model, tower)):
            num_frames = _BLANK_FRAMES if kind == "video" else 1
            pixels = torch.cat([pixels, pixels.new_zeros(num_frames, 3, side, side)])
            media = [*media, MediumInfo(0, kind, num_frames, (side, side), "")]
            seen.add(tower)
    return pixels, media


def take_part(
    embeds: Float[Tensor, "b l d"], model: nn.Module, language_model: nn.Module, idle: list[Tensor]
) -> Float[Tensor, "b l d"]:
    """Add zero times all that a batch may leave out and another process's batch may not; one process has no other.

    A batch may leave out any weight outside the language model (a text the tower, a video the newline); other processes
    would wait for its gradient, which is now zero.

    Args:
        embeds: What the loss depends on.
        model: With the weights that train.
        language_model: Of ``model``; no batch leaves it out.
        idle: What sharded towers made of blanks; weights that are not gathered cannot be read themselves.
    """
    if not (torch.is_grad_enabled() and is_distributed()):
        return embeds
    language = set(language_model.parameters())
    trained = [p for p in _at_hand(model) if p.requires_grad and p not in language]
    values = [p.flatten()[0] for p in trained] + [tensor.sum() for tensor in idle]
    return embeds + torch.stack([embeds.new_zeros(()), *(value.to(embeds) for value in values)]).sum() * 0


def _at_hand(model: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters that no module within gathers when it is called."""
    yield from model.parameters(recurse=False)
    for child in model.children():
        if not isinstance(child, _SHARDED):
            yield from _at_hand(child)
