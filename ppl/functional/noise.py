"""Noisy embeddings for fine-tuning (NEFTune, Jain et al. 2023, arXiv:2310.05914).

Axes: b samples | l positions | d channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def add_embedding_noise(
    embeddings: Float[Tensor, "b l d"],
    is_text: Bool[Tensor, "b l"],
    segments: Int64[Tensor, "b l"],
    alpha: float,
) -> Float[Tensor, "b l d"]:
    """Add uniform noise of at most ``alpha / sqrt(n d)`` to the embeddings of text, n a conversation's text tokens.

    The paper has no media; visual tokens, which are not rows of the embedding table, stay as they are.

    Args:
        embeddings: The language model's inputs.
        is_text: Positions that get noise, unless they are padding.
        segments: Number of the conversation within the row, 0 for padding.
        alpha: The paper's: 5 for most of its runs.
    """
    is_text = is_text & (segments > 0)
    counts = segments.new_zeros(len(segments), int(segments.max()) + 1).scatter_add(1, segments, is_text.long())
    sizes = counts.gather(1, segments).clamp(min=1) * embeddings.shape[-1]
    bound = (alpha * is_text / sizes.sqrt()).to(embeddings.dtype)
    return embeddings + (2 * torch.rand_like(embeddings) - 1) * bound[..., None]
