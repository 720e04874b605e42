"""Let a hard choice train what it was chosen by (Bengio et al., 2013, arXiv:1308.3432: the straight-through estimator).

Axes: *b batch | n chosen values | c channels.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def straight_through(values: Float[Tensor, "*b n c"], probabilities: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n c"]:
    """Return the values bit for bit, with a gradient to the probabilities they were chosen with.

    A choice has no gradient of its own. This one is that of ``values * probabilities`` where all probabilities are 1:
    per choice, the sum over channels of value times incoming gradient. The gradient to the values passes unchanged.

    Args:
        values: What was chosen; of any precision.
        probabilities: Of each choice; only its gradient is used, so it may be of a higher precision than the values.

    Returns:
        The values, in their own dtype.
    """
    one = 1 + (probabilities - probabilities.detach())
    return (values * one[..., None]).to(values.dtype)
