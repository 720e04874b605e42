"""How much of a video a question needs: its certificate (PPLLaVA v2, section 3.1, after EgoSchema, arXiv:2308.09126).

Axes: p texts | t frames | e the model's shared vision-text space.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

_ROUNDING = 1e-6
"""Cosines that differ by less are equal: fp32 does not hold more."""


def frame_similarity(texts: Float[Tensor, "p e"], frames: Float[Tensor, "t e"]) -> Float[Tensor, "p t"]:
    """Compare every text with every frame by the cosine of their features; features may have any length."""
    return F.normalize(texts, dim=-1) @ F.normalize(frames, dim=-1).T


def relative_similarity(similarity: Float[Tensor, "p t"]) -> Float[Tensor, "p t"]:
    """Stretch each text's similarities to [0, 1]: its most similar frame becomes 1, its least similar 0.

    Frames that are all alike to a text (a single frame, a still picture) are all its most similar: 1.
    """
    least, most = similarity.amin(dim=1, keepdim=True), similarity.amax(dim=1, keepdim=True)
    spread = most - least
    return torch.where(spread > _ROUNDING, (similarity - least) / spread.clamp_min(_ROUNDING), 1.0)


def relevant_frames(similarity: Float[Tensor, "p t"], threshold: float) -> Bool[Tensor, "p t"]:
    """Say which frames are relevant to each text: those whose similarity exceeds the threshold."""
    return similarity > threshold


def certificate(relevant: Bool[Tensor, "p t"]) -> Float[Tensor, " p"]:
    """Give the share of frames that are relevant to each text; the shorter, the more redundant the video.

    In double precision: shares are compared and ranked.
    """
    return relevant.double().mean(dim=1)
