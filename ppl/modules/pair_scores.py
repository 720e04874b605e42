"""How probable a model finds the answers of preference pairs; media pass the tower and the pooler once a pair.

Axes: b pairs | r = 2 b answers, the better ones first | l positions | n visual tokens of all pairs | d channels.
"""

from __future__ import annotations

from types import MethodType
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

from ppl.batches import Batch, PreferenceBatch
from ppl.functional.logprobs import AnswerLogProbs, answer_logprobs
from ppl.functional.splicing import splice_visual_tokens
from ppl.modules.backbones.packed_rows import last_hidden_state
from ppl.modules.video_llm import VideoLLM


class PairScores(NamedTuple):
    """What a model makes of a batch of pairs."""

    logprobs: AnswerLogProbs
    """Of the r answers."""
    visual: Float[Tensor, "n d"]
    """The pairs' visual tokens, for another model that sees the same."""


def score_pairs(model: VideoLLM, batch: PreferenceBatch, visual: Float[Tensor, "n d"] | None = None) -> PairScores:
    """Run a model on the answers of a batch of pairs; no logits but those of answers are computed.

    Args:
        model: Whose parts are not shared out, or called by `gathering`'s method.
        batch: Of pairs.
        visual: Their visual tokens; None: computed.
    """
    half = len(batch["input_ids"]) // 2
    better, worse = batch["input_ids"].split(half)
    backbone, placeholder = model.backbone, model.backbone.image_token_id
    if visual is None:
        rows = {**batch, "input_ids": better, "attention_mask": batch["attention_mask"][:half]}
        first = model.embed(cast("Batch", rows))
        visual = first[better == placeholder]
    else:
        first = splice_visual_tokens(backbone.embed(better), better, visual, placeholder)
    second = splice_visual_tokens(backbone.embed(worse), worse, visual, placeholder)
    embeds = torch.cat([first, second])
    hidden = last_hidden_state(backbone.language_model, embeds, batch["attention_mask"])
    return PairScores(answer_logprobs(hidden, batch["labels"], backbone.hf.lm_head), visual)


def gather_around_scores(model: VideoLLM) -> None:
    """Have a model with FSDP2's shards gather its root's weights for `score_pairs`, as it does for ``forward``."""
    if isinstance(model, FSDPModule):
        model.score_pairs = MethodType(score_pairs, model)  # pyright: ignore[reportArgumentType]
        register_fsdp_forward_method(model, "score_pairs")


def pair_scores(model: VideoLLM, batch: PreferenceBatch, visual: Float[Tensor, "n d"] | None = None) -> PairScores:
    """`score_pairs`, of a model that may be sharded."""
    scorer = getattr(model, "score_pairs", None)
    return score_pairs(model, batch, visual) if scorer is None else scorer(batch, visual)
