"""Score every visual token against the prompt (PPLLaVA, Eq. 1).

Axes: *b batch | t h w frames, rows, columns | e the aligner's shared vision-text space.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def prompt_relevance(
    patches: Float[Tensor, "*b t h w e"],
    prompt: Float[Tensor, "*b e"],
    scale: Float[Tensor, ""] | float,
) -> Float[Tensor, "*b t h w"]:
    """Compare each visual token with the prompt by scaled cosine similarity.

    Half precision cannot tell neighbouring tokens apart once the scale has magnified its rounding, so this computes
    in fp32 at least, also under autocast.

    Args:
        patches: Visual tokens in the shared space; any length.
        prompt: Text embedding in the shared space; any length.
        scale: Inverse temperature the aligner was trained with; 100 for CLIP.

    Returns:
        The logits of Eq. 1's softmax.
    """
    dtype = torch.promote_types(patches.dtype, torch.float32)
    with torch.autocast(patches.device.type, enabled=False):
        patches = F.normalize(patches.to(dtype), dim=-1)
        prompt = F.normalize(prompt.to(dtype), dim=-1)
        return scale * torch.einsum("...thwe,...e->...thw", patches, prompt)


def relevance_distribution(relevance: Float[Tensor, "*b t h w"]) -> Float[Tensor, "*b t h w"]:
    """Turn relevance into a distribution over all tokens of a clip (PPLLaVA, Eq. 1).

    Args:
        relevance: Logits, as ``prompt_relevance`` returns them.

    Returns:
        Probabilities that sum to one over t, h and w together; fp32 at least.
    """
    dtype = torch.promote_types(relevance.dtype, torch.float32)
    return relevance.flatten(-3).softmax(dim=-1, dtype=dtype).view_as(relevance)
