"""Tell one vision tower from another, for what is kept of their outputs."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from ppl.modules.backbones.spec import BackboneSpec

_NOT_VISION = ("_name_or_path", "architectures", "dtype", "transformers_version")
"""Fields of a vision tower's config that leave its output, given its weights, as it is."""


def vision_digest(tower: nn.Module, config: Any, spec: BackboneSpec) -> str:  # noqa: ANN401  as `Backbone.hf`
    """A digest of all that decides what a vision tower returns: weights, config, layer and normalisation.

    Args:
        tower: Or towers.
        config: The whole model's.
        spec: The backbone's.
    """
    towers = (spec.image_tower, spec.video_tower, spec.has_cls, spec.cls_kept, spec.output_is_last_layer)
    how = (towers, spec.image_mean, spec.image_std, config.vision_feature_layer)
    fields = {k: v for k, v in config.vision_config.to_dict().items() if k not in _NOT_VISION}
    digest = hashlib.sha256(repr((how, sorted(fields.items()))).encode())
    for name, tensor in tower.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
