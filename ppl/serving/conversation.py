"""From turns and encoded media to what the language model reads.

Axes: l positions | n visual tokens | d language channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, Record, Turn, check_record
from ppl.functional.splicing import splice_visual_tokens
from ppl.modules.video_llm import VideoLLM
from ppl.serving.encoded_media import EncodedMedium

Policy = Literal["per-turn", "first-turn", "union"]
"""Which questions of a conversation guide pooling: the newest; the first; or all different ones so far, joined by
blanks as those of a record are in training."""


def without_placeholders(text: str) -> str:
    """What is said in a turn: without the places of media, and with single blanks."""
    return " ".join(text.replace(PLACEHOLDER, " ").split())


def conversation_record(turns: Sequence[Turn], media: Sequence[EncodedMedium]) -> Record:
    """Make a record of turns that end with a question.

    Raises:
        ValueError: They make no conversation, or have another number of placeholders than of media.
    """
    record = Record("chat", list(turns), [medium.ref for medium in media], origin="this conversation")
    check_record(record)
    return record


def guide_of(questions: Sequence[str], policy: str) -> str:
    """The text that pooling goes by under a `Policy`.

    Raises:
        ValueError: There is no such policy.
    """
    guides = {"per-turn": questions[-1], "first-turn": questions[0], "union": " ".join(dict.fromkeys(questions))}
    if policy not in guides:
        msg = f"got policy={policy!r}, expected one of {', '.join(guides)}"
        raise ValueError(msg)
    return guides[policy]


@torch.no_grad()
def pooled_tokens(model: VideoLLM, media: Sequence[EncodedMedium], guide: str) -> Float[Tensor, "n d"]:
    """Score by the guide, pool and project all media of a conversation, one after the other."""
    prompts = None
    if model.aligner is not None and model.pooler.uses_relevance:
        device = next(model.parameters()).device
        prompts = model.aligner.embed_prompts(model.aligner.tokenize([guide]).to(device))
    return model.visual_tokens([medium.grid for medium in media], [medium.info for medium in media], prompts)


@torch.no_grad()
def embed_conversation(
    model: VideoLLM,
    processor: Processor,
    record: Record,
    media: Sequence[EncodedMedium],
    tokens: Float[Tensor, "n d"] | None,
) -> Float[Tensor, "1 l d"]:
    """Render and embed a conversation up to its answer, its visual tokens in place.

    Args:
        model: Embeds the text.
        processor: Renders as in training; of the same model.
        record: See `conversation_record`.
        media: Those of the record.
        tokens: What `pooled_tokens` made of them; None without media.

    Raises:
        ValueError: It is too long for the model.
    """
    sample = processor.assemble(record, [medium.prepared for medium in media], for_generation=True)
    ids = sample.input_ids[None].to(next(model.parameters()).device)
    embeds = model.backbone.embed(ids)
    if tokens is None:
        return embeds
    return splice_visual_tokens(embeds, ids, tokens, model.backbone.image_token_id)
