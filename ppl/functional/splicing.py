"""Make room for visual tokens in a text, and put them there.

Axes: b samples | l text positions | L text positions, placeholders expanded | n visual tokens | d embedding channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ppl.batches import IGNORE_INDEX


def expand_placeholders(
    input_ids: Int64[Tensor, " l"], labels: Int64[Tensor, " l"], counts: Sequence[int], placeholder_id: int
) -> tuple[Int64[Tensor, " L"], Int64[Tensor, " L"]]:
    """Repeat each placeholder once per visual token of its medium.

    Args:
        input_ids: A sample's tokens with one placeholder per medium.
        labels: Next-token targets, aligned with ``input_ids``.
        counts: Visual tokens of each medium, in the order of the placeholders.
        placeholder_id: The token that stands for a medium.

    Returns:
        Tokens and labels after expansion; placeholders carry no loss.

    Raises:
        ValueError: If placeholders and media differ in number, or a medium has no token.
    """
    is_placeholder = input_ids == placeholder_id
    num_placeholders = int(is_placeholder.sum())
    if num_placeholders != len(counts):
        raise ValueError(
            f"the text has {num_placeholders} placeholder(s) but the sample holds {len(counts)} media: "
            "write one placeholder per medium"
        )
    if any(count < 1 for count in counts):
        raise ValueError(f"counts={list(counts)} holds a medium without visual tokens: give every medium at least 1")
    repeats = torch.ones_like(input_ids)
    repeats[is_placeholder] = repeats.new_tensor(counts)
    labels = labels.masked_fill(is_placeholder, IGNORE_INDEX)
    return input_ids.repeat_interleave(repeats), labels.repeat_interleave(repeats)


def splice_visual_tokens(
    inputs_embeds: Float[Tensor, "b l d"],
    input_ids: Int64[Tensor, "b l"],
    visual_tokens: Float[Tensor, "n d"],
    placeholder_id: int,
) -> Float[Tensor, "b l d"]:
    """Put visual tokens where the text has placeholders, row by row, left to right.

    Args:
        inputs_embeds: Text embeddings; what they hold at placeholders is dropped.
        input_ids: The tokens behind the embeddings, with one placeholder per visual token.
        visual_tokens: Tokens of all media of the batch; moved to the embeddings' dtype and device.
        placeholder_id: The token that stands for a visual token.

    Returns:
        A new tensor with the embeddings' dtype; gradients reach both sources.

    Raises:
        ValueError: If placeholders and visual tokens differ in number.
    """
    is_placeholder = input_ids == placeholder_id
    per_row = is_placeholder.sum(dim=1).tolist()
    if sum(per_row) != len(visual_tokens):
        raise ValueError(
            f"the batch has {sum(per_row)} placeholders (per row: {per_row}) but {len(visual_tokens)} visual tokens: "
            "expand each placeholder to its medium's number of visual tokens, and do not truncate inside a medium"
        )
    return inputs_embeds.masked_scatter(is_placeholder[..., None], visual_tokens.to(inputs_embeds))
