"""Next-token prediction.

Axes: b samples | l text positions | v vocabulary.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from ppl.batches import IGNORE_INDEX


def next_token_loss(
    logits: Float[Tensor, "b l v"], labels: Int64[Tensor, "b l"], label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Average the cross-entropy of predicting each labelled token from those before it.

    Only the labelled positions are copied and promoted to fp32: visual tokens, most of a batch, carry no label.

    Args:
        logits: The language model's scores at each position.
        labels: Targets, not shifted; ``IGNORE_INDEX`` where there is no loss.
        label_smoothing: Share of each target spread over the whole vocabulary (Szegedy et al. 2016, section 7).

    Returns:
        The mean over labelled positions of the whole batch, in fp32 at least.

    Raises:
        ValueError: If no position carries a label.
    """
    targets = labels[:, 1:]
    is_target = targets != IGNORE_INDEX
    if not is_target.any():
        raise ValueError(
            f"no label is left in a batch of (b, l)={tuple(labels.shape)}: every one past the first position is "
            f"IGNORE_INDEX ({IGNORE_INDEX}); check that max_length does not cut off the answers and that the chat "
            "template marks them"
        )
    dtype = torch.promote_types(logits.dtype, torch.float32)
    scores = logits[:, :-1][is_target].to(dtype)
    return F.cross_entropy(scores, targets[is_target], label_smoothing=label_smoothing)
