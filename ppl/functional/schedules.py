"""Learning rates over a run, as factors of their peak."""

from __future__ import annotations

import math


def warmup_cosine(step: int, num_warmup_steps: int, num_steps: int) -> float:
    """Rise linearly from 0 to 1, then fall by half a cosine to 0 (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5).

    Args:
        step: Steps taken before this one.
        num_warmup_steps: Steps of the rise.
        num_steps: Steps of the whole run.

    Returns:
        The factor, between 0 and 1.
    """
    if step < num_warmup_steps:
        return step / max(1, num_warmup_steps)
    progress = (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
