"""Put samples into one padded batch.

Axes: b samples | l text positions | f frames and tiles of all media | H W pixels | p prompt tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from ppl.batches import IGNORE_INDEX, Batch, InputSpec
from ppl.datamodules.processing import Sample

PaddingSide = Literal["left", "right"]


def collate(samples: Sequence[Sample], inputs: InputSpec, padding_side: PaddingSide) -> Batch:
    """Pad texts to the longest and concatenate media.

    Args:
        samples: The rows, in order.
        inputs: The model's demands; its tokenizer pads.
        padding_side: ``right`` to train, ``left`` to generate: generation after padding is silently wrong.

    Raises:
        ValueError: If the tokenizer has no padding token.
    """
    pad_id = inputs.tokenizer.pad_token_id
    if not isinstance(pad_id, int):
        raise ValueError(
            f"got a tokenizer ({inputs.tokenizer.name_or_path!r}) without padding token, expected one; "
            "set tokenizer.pad_token, for LLaMA to its unk_token"
        )
    no_frames = torch.empty(0, 3, inputs.image_size, inputs.image_size, dtype=torch.uint8)
    prompts = [sample.prompt for sample in samples]
    attended = [torch.ones_like(sample.input_ids) for sample in samples]
    return Batch(
        input_ids=_pad([sample.input_ids for sample in samples], pad_id, padding_side),
        attention_mask=_pad(attended, 0, padding_side),
        labels=_pad([sample.labels for sample in samples], IGNORE_INDEX, padding_side),
        pixel_values=torch.cat([no_frames, *(sample.frames for sample in samples)]),
        media=[info._replace(sample=row) for row, sample in enumerate(samples) for info in sample.media],
        prompts=prompts,
        prompt_ids=None if inputs.tokenize_prompts is None else inputs.tokenize_prompts(prompts),
        ids=[sample.id for sample in samples],
        categories=[sample.category for sample in samples],
        answers=[sample.answer for sample in samples],
    )


def _pad(rows: list[Int64[Tensor, " _"]], value: int, side: PaddingSide) -> Int64[Tensor, "b l"]:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)
