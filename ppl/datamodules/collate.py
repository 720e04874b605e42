"""Put samples into one padded batch.

Axes: b rows | n samples | l text positions | f frames and tiles of all media | H W pixels | p prompt tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from ppl.batches import IGNORE_INDEX, Batch, InputSpec
from ppl.datamodules.processing import Sample
from ppl.functional.packing import fit_rows

PaddingSide = Literal["left", "right"]


class Packing(NamedTuple):
    """Several samples in one row."""

    row_length: int | None = None
    """Most positions of a row; None: as many as the model can attend to."""
    one_row: bool = False
    """All samples share a row, however long."""


def collate(
    samples: Sequence[Sample], inputs: InputSpec, padding_side: PaddingSide, packing: Packing | None = None
) -> Batch:
    """Pad texts to the longest and concatenate media.

    Args:
        samples: The rows, in order; packed, they are put in another.
        inputs: The model's demands; its tokenizer pads.
        padding_side: ``right`` to train, ``left`` to generate: generation after padding is silently wrong.
        packing: How samples share rows, to train; None: each has its own.

    Raises:
        ValueError: The tokenizer has no padding token, or a sample is longer than a packed row.
    """
    pad_id = inputs.tokenizer.pad_token_id
    if not isinstance(pad_id, int):
        raise ValueError(
            f"got a tokenizer ({inputs.tokenizer.name_or_path!r}) without padding token, expected one; "
            "set tokenizer.pad_token, for LLaMA to its unk_token"
        )
    rows = [[sample] for sample in samples]
    if packing is not None:
        row_length = None if packing.one_row else packing.row_length or inputs.max_length
        for sample in samples:
            check_fits(sample, row_length)
        fitted = fit_rows([len(sample.input_ids) for sample in samples], row_length)
        rows = [[samples[i] for i in row] for row in fitted]
    samples = [sample for row in rows for sample in row]
    no_frames = torch.empty(0, 3, inputs.image_size, inputs.image_size, dtype=torch.uint8)
    prompts = [sample.prompt for sample in samples]
    numbers = [[torch.full_like(s.input_ids, number) for number, s in enumerate(row, 1)] for row in rows]
    return Batch(
        input_ids=_pad([[sample.input_ids for sample in row] for row in rows], pad_id, padding_side),
        attention_mask=_pad(numbers, 0, padding_side),
        labels=_pad([[_targets(sample) for sample in row] for row in rows], IGNORE_INDEX, padding_side),
        pixel_values=torch.cat([no_frames, *(sample.frames for sample in samples)]),
        media=[info._replace(sample=number) for number, sample in enumerate(samples) for info in sample.media],
        prompts=prompts,
        prompt_ids=None if inputs.tokenize_prompts is None else inputs.tokenize_prompts(prompts),
        ids=[sample.id for sample in samples],
        categories=[sample.category for sample in samples],
        answers=[sample.answer for sample in samples],
    )


def check_fits(sample: Sample, row_length: int | None) -> None:
    """Raise ValueError, naming the sample, if it is longer than a packed row; of None, nothing is."""
    if row_length is not None and len(sample.input_ids) > row_length:
        raise ValueError(
            f"sample {sample.id!r}: got {len(sample.input_ids)} positions for packed rows of {row_length}, expected it "
            "to fit into one; raise row_length, or shorten the sample"
        )


def _targets(sample: Sample) -> Int64[Tensor, " _"]:
    """Labels but for the first, which nothing before it can predict: in a packed row, another sample's end would."""
    return torch.cat([torch.full_like(sample.labels[:1], IGNORE_INDEX), sample.labels[1:]])


def _pad(rows: Sequence[Sequence[Int64[Tensor, " _"]]], value: int, side: PaddingSide) -> Int64[Tensor, "b l"]:
    joined = [torch.cat(list(row)) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(joined, batch_first=True, padding_value=value, padding_side=side)
