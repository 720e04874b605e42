"""Count right answers without generating: teacher-forced greedy decoding.

Axes: b samples | l positions | v vocabulary.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ppl.batches import IGNORE_INDEX


def answers_correct(logits: Float[Tensor, "b l v"], labels: Int64[Tensor, "b l"]) -> Bool[Tensor, " b"]:
    """Tell for which samples greedy decoding would give exactly the labelled answer.

    If every labelled token is the most likely one given the right tokens before it, greedy decoding reproduces the
    answer, and only then. A sample without labels counts as wrong.
    """
    targets = labels[:, 1:]
    wanted = targets != IGNORE_INDEX
    right = logits[:, :-1].argmax(dim=-1) == targets
    return (right | ~wanted).all(dim=1) & wanted.any(dim=1)
