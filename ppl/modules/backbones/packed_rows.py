"""Run a language model over rows that may hold several samples each, none of which sees another.

Axes: b rows | l text positions | d channels.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor

from ppl.functional.packing import restarting_positions


def last_hidden_state(
    language_model: Any,  # noqa: ANN401  as `Backbone.hf`
    inputs_embeds: Float[Tensor, "b l d"],
    attention_mask: Int64[Tensor, "b l"],
) -> Float[Tensor, "b l d"]:
    """What the decoder's last layer leaves.

    Positions of a packed row start again with each sample. From that transformers' masks (``create_causal_mask``, which
    looks if there is neither a mask nor a cache) keep samples apart; padding counts as one more. Flash attention looks
    at a batch of one row only, so all samples are laid into one without padding; what padding leaves is then 0.

    Args:
        language_model: A decoder of transformers without its head.
        inputs_embeds: Its input.
        attention_mask: 0 on padding, 1 elsewhere; in packed rows the samples are 1, 2, ….
    """
    if not (attention_mask > 1).any():
        return language_model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
    positions = restarting_positions(attention_mask)
    if not language_model.config._attn_implementation.startswith("flash"):
        return language_model(inputs_embeds=inputs_embeds, position_ids=positions, use_cache=False).last_hidden_state
    kept = attention_mask > 0
    [flat] = language_model(
        inputs_embeds=inputs_embeds[kept][None], position_ids=positions[kept][None], use_cache=False
    ).last_hidden_state
    hidden = flat.new_zeros(*attention_mask.shape, flat.shape[-1])
    hidden[kept] = flat
    return hidden
