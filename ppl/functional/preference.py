"""Losses on preference pairs: a better and a worse answer to one prompt.

Every loss reads one score an answer. With a reference it is the log-ratio ``log pi(y|x) - log ref(y|x)``, without one
``log pi(y|x)``; summed over the answer's tokens, or, where a function says "per token", averaged. The implicit reward
is beta times the score. Each function returns a loss a pair, to be averaged.

Axes: b pairs.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_LEAST_DOUBT = 1e-7
"""Least share of probability that is left to other answers; keeps the odds finite in fp32."""


def sigmoid_loss(
    chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"], beta: float, label_smoothing: float = 0.0
) -> Float[Tensor, " b"]:
    """DPO: ``-log sigmoid(beta (chosen - rejected))`` (Rafailov et al. 2023, arXiv:2305.18290, eq. 7).

    With smoothing e it is ``-(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h)``, h the difference: "conservative"
    DPO for labels that are wrong with probability e (Mitchell 2023, "A note on DPO with noisy preferences", eq. 3).

    Args:
        chosen: Log-ratios of the better answers.
        rejected: Of the worse ones.
        beta: How strongly the policy is held to the reference; small is loosely.
        label_smoothing: e, below 1/2.
    """
    margin = beta * (chosen - rejected)
    return -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)


def robust_loss(
    chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"], beta: float, label_smoothing: float
) -> Float[Tensor, " b"]:
    """DPO whose expectation under flipped labels is DPO's without them.

    ``(-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2 e)`` (Chowdhury et al. 2024, arXiv:2403.00409,
    eq. 9).

    Args:
        chosen: Log-ratios of the better answers.
        rejected: Of the worse ones.
        beta: As in `sigmoid_loss`.
        label_smoothing: e, the share of pairs that are the wrong way round; below 1/2.
    """
    margin = beta * (chosen - rejected)
    clean, flipped = -F.logsigmoid(margin), -F.logsigmoid(-margin)
    return ((1 - label_smoothing) * clean - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def hinge_loss(chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"], beta: float) -> Float[Tensor, " b"]:
    """``max(0, 1 - beta (chosen - rejected))`` (SLiC-HF, Zhao et al. 2023, arXiv:2305.10425, eq. 1).

    On log-ratios and with a margin of 1, as RSO has it (Liu et al. 2023, arXiv:2309.06657, eq. 8).
    """
    return torch.relu(1 - beta * (chosen - rejected))


def ipo_loss(chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"], beta: float) -> Float[Tensor, " b"]:
    """``(chosen - rejected - 1 / (2 beta))^2``, per token (IPO, Azar et al. 2023, arXiv:2310.12036, eq. 17).

    The paper's equation does not say that log-ratios are averaged over tokens; its authors told TRL's that they are.
    """
    return (chosen - rejected - 1 / (2 * beta)).square()


def kto_pair_loss(chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"], beta: float) -> Float[Tensor, " b"]:
    """KTO on pairs (Ethayarajh et al. 2024, arXiv:2402.01306, first version, eq. 7, both weights 1).

    The mean over a pair of ``1 - sigmoid(beta (chosen - KL_r))`` and ``1 - sigmoid(beta (KL_c - rejected))``. KL_r is
    the mean of the batch's rejected log-ratios, KL_c of the chosen ones, not below 0 and without gradient; of this
    process's batch alone, so that it is a poor estimate where batches are small.
    """
    chosen_kl = chosen.detach().mean().clamp(min=0)
    rejected_kl = rejected.detach().mean().clamp(min=0)
    better = 1 - torch.sigmoid(beta * (chosen - rejected_kl))
    worse = 1 - torch.sigmoid(beta * (chosen_kl - rejected))
    return (better + worse) / 2


def simpo_loss(
    chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"], beta: float, margin: float
) -> Float[Tensor, " b"]:
    """``-log sigmoid(beta (chosen - rejected) - margin)``, per token, without reference.

    SimPO (Meng et al. 2024, arXiv:2405.14734, eq. 6).

    Args:
        chosen: Mean log-probabilities of the better answers.
        rejected: Of the worse ones.
        beta: Scale of the reward.
        margin: The paper's gamma: by how much the better answer's reward should be larger.
    """
    return -F.logsigmoid(beta * (chosen - rejected) - margin)


def orpo_loss(chosen: Float[Tensor, " b"], rejected: Float[Tensor, " b"], weight: float) -> Float[Tensor, " b"]:
    """``-chosen - weight log sigmoid(log odds(chosen) / odds(rejected))``, per token, no reference.

    ``odds(p) = p / (1 - p)`` of the tokens' geometric mean p (Hong et al. 2024, arXiv:2403.07691, eq. 3 to 7); the
    first term is the likelihood of the better answer.

    Args:
        chosen: Mean log-probabilities of the better answers.
        rejected: Of the worse ones.
        weight: The paper's lambda.
    """
    log_odds = (chosen - rejected) - (_log_of_rest(chosen) - _log_of_rest(rejected))
    return -chosen - weight * F.logsigmoid(log_odds)


def _log_of_rest(logprob: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """``log(1 - exp(logprob))`` without cancellation (Mächler 2012, "Accurately computing log(1 - exp(-|a|))")."""
    logprob = logprob.clamp(max=-_LEAST_DOUBT)
    near_one = torch.log(-torch.expm1(logprob.clamp(min=-math.log(2))))
    return torch.where(logprob > -math.log(2), near_one, torch.log1p(-torch.exp(logprob.clamp(max=-math.log(2)))))
