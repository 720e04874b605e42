"""Log-probabilities of answers, without the logits of anything else.

Axes: b sequences | l positions | d channels of the language model | n labelled positions | v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ppl.batches import IGNORE_INDEX


class AnswerLogProbs(NamedTuple):
    """How probable each sequence's labelled tokens are, given all before them."""

    total: Float[Tensor, " b"]
    """Sum over a sequence's labelled tokens, in fp32 at least."""
    num_tokens: Int64[Tensor, " b"]


def answer_logprobs(
    hidden: Float[Tensor, "b l d"],
    labels: Int64[Tensor, "b l"],
    head: Callable[[Tensor], Tensor],
    chunk: int = 1024,
) -> AnswerLogProbs:
    """Sum the log-probabilities of each sequence's labelled tokens.

    The head runs on positions that predict a label only, ``chunk`` of them at a time. With gradients, logits are
    computed again in the backward pass rather than kept: at most ``chunk`` x v are held at once.

    Args:
        hidden: The decoder's last hidden states, which the head turns into logits.
        labels: Targets, not shifted; ``IGNORE_INDEX`` on prompts, visual tokens and padding.
        head: (k, d) -> (k, v) logits.
        chunk: Positions a head call.

    Raises:
        ValueError: A sequence has no label past its first position.
    """
    targets = labels[:, 1:]
    is_target = targets != IGNORE_INDEX
    counts = is_target.sum(dim=1)
    if not counts.all():
        raise ValueError(
            f"got {int((counts == 0).sum())} of {len(labels)} sequences without a label past their first position, "
            "expected an answer in each: check that the chat template marks them"
        )
    states, words = hidden[:, :-1][is_target].split(chunk), targets[is_target].split(chunk)
    if torch.is_grad_enabled():
        parts = [checkpoint(_picked, head, *pair, use_reentrant=False) for pair in zip(states, words, strict=True)]
    else:
        parts = [_picked(head, *pair) for pair in zip(states, words, strict=True)]
    found = torch.cat(parts)
    rows = torch.arange(len(labels), device=labels.device).repeat_interleave(counts)
    return AnswerLogProbs(found.new_zeros(len(labels)).index_add(0, rows, found), counts)


def _picked(
    head: Callable[[Tensor], Tensor], states: Float[Tensor, "n d"], words: Int64[Tensor, " n"]
) -> Float[Tensor, " n"]:
    logits = head(states)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.gather(1, words[:, None])[:, 0] - logits.logsumexp(dim=1)
