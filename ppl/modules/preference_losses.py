"""What a preference pair costs, as a typed choice; the mathematics is in `ppl.functional.preference`.

Axes: b pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ppl.functional import preference


class PreferenceLoss(ABC):
    """A loss of the scores of better and worse answers."""

    uses_reference = True
    """Scores are log-ratios to a reference; else log-probabilities."""
    per_token = False
    """Scores are averaged over an answer's tokens; else summed."""

    @abstractmethod
    def __call__(self, chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Loss of each pair, given the scores of its better and worse answer."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """The implicit reward of an answer is this times its score."""


@dataclass(frozen=True)
class _WithBeta(PreferenceLoss):
    beta: float = 0.1

    def __post_init__(self) -> None:
        """Check the value."""
        _check(self.beta)

    @property
    def scale(self) -> float:
        """Beta."""
        return self.beta


@dataclass(frozen=True)
class Sigmoid(_WithBeta):
    """DPO; see `ppl.functional.preference.sigmoid_loss`.

    Args:
        beta: How strongly the policy is held to the reference; small is loosely.
        label_smoothing: Probability that a pair is the wrong way round.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        _check(self.beta, self.label_smoothing)

    def __call__(self, chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Loss of each pair."""
        return preference.sigmoid_loss(chosen, rejected, self.beta, self.label_smoothing)


@dataclass(frozen=True)
class Robust(Sigmoid):
    """DPO without bias from pairs that are the wrong way round; see `ppl.functional.preference.robust_loss`.

    Args:
        beta: As in `Sigmoid`.
        label_smoothing: Share of pairs that are the wrong way round.
    """

    label_smoothing: float = 0.1

    def __call__(self, chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Loss of each pair."""
        return preference.robust_loss(chosen, rejected, self.beta, self.label_smoothing)


@dataclass(frozen=True)
class Hinge(_WithBeta):
    """No loss beyond a margin; see `ppl.functional.preference.hinge_loss`.

    Args:
        beta: 1 / beta is the margin of log-ratios.
    """

    def __call__(self, chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Loss of each pair."""
        return preference.hinge_loss(chosen, rejected, self.beta)


@dataclass(frozen=True)
class IPO(_WithBeta):
    """A margin to reach and not to exceed; see `ppl.functional.preference.ipo_loss`.

    Args:
        beta: The paper's tau: 1 / (2 beta) is the margin of mean log-ratios.
    """

    per_token = True

    def __call__(self, chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Loss of each pair."""
        return preference.ipo_loss(chosen, rejected, self.beta)


@dataclass(frozen=True)
class KTOPair(_WithBeta):
    """Each answer against the batch's divergence from the reference; see `ppl.functional.preference.kto_pair_loss`.

    Args:
        beta: As in `Sigmoid`.
    """

    def __call__(self, chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Loss of each pair."""
        return preference.kto_pair_loss(chosen, rejected, self.beta)


@dataclass(frozen=True)
class SimPO(_WithBeta):
    """Mean log-probabilities and a margin, without reference; see `ppl.functional.preference.simpo_loss`.

    Args:
        beta: Scale of the reward, 2.0 to 2.5 in the paper.
        margin: The paper's gamma, 0.3 to 1.6 of it in the paper.
    """

    beta: float = 2.0
    margin: float = 1.0
    uses_reference = False
    per_token = True

    def __call__(self, chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Loss of each pair."""
        return preference.simpo_loss(chosen, rejected, self.beta, self.margin)


@dataclass(frozen=True)
class ORPO(PreferenceLoss):
    """Likelihood of better answers and the ratio of odds, without reference; see `ppl.functional.preference.orpo_loss`.

    Args:
        weight: Of the second term, the paper's lambda: 0.1 there.
    """

    weight: float = 0.1
    uses_reference = False
    per_token = True

    def __post_init__(self) -> None:
        """Check the value."""
        _check(self.weight)

    @property
    def scale(self) -> float:
        """The weight, as in TRL."""
        return self.weight

    def __call__(self, chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Loss of each pair."""
        return preference.orpo_loss(chosen, rejected, self.weight)


def _check(scale: float, label_smoothing: float = 0.0) -> None:
    if not (scale > 0 and 0 <= label_smoothing < 0.5):
        msg = (
            f"got a scale (beta, weight) of {scale:g} and label_smoothing {label_smoothing:g}, expected more than 0, "
            "and at least 0 and less than 0.5; set model.loss"
        )
        raise ValueError(msg)
