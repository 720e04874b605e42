"""What decides the features of a medium beside its pixels: the towers that encode it, and their precision."""

from __future__ import annotations

import torch
from torch import nn

from ppl.modules.aligners.base import Aligner
from ppl.modules.backbones.base import Backbone


def weights_identity(backbone: Backbone, aligner: Aligner | None) -> str:
    """A digest of the backbone's vision tower, and of the aligner's own if it has one: weights, config, layer."""
    return backbone.vision_identity() + (aligner.vision_identity() if aligner is not None else "")


def autocast_precision(tower: nn.Module) -> str:
    """The precision that a tower's weights are cast to while it runs; empty where they are used as they are."""
    device = next(tower.parameters()).device.type
    return str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else ""
