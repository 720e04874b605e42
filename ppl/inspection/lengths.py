"""How long samples are for a recipe's language model, without its weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from transformers import AutoTokenizer

from ppl.batches import InputSpec
from ppl.datamodules.instruction import InstructionDataModule
from ppl.datamodules.lengths import record_lengths
from ppl.datamodules.processing import Processor
from ppl.inspection.reading import Contents, Fault
from ppl.modules.backbones.hub import local_folder
from ppl.planning.recipe import Recipe, build_model

_AT_ONCE = 1000
"""Texts tokenised together."""


class Length(NamedTuple):
    """Positions that a record takes in the language model."""

    positions: int
    origin: str
    id: str


def recipe_processor(recipe: Recipe, data: InstructionDataModule) -> Processor:
    """Make what knows the lengths: the model is built on the meta device, the tokenizer is its own.

    Args:
        recipe: Of the model.
        data: The recipe's, for the template and the number of frames.

    Raises:
        FileNotFoundError: The model's architecture or its tokenizer is nowhere to be found.
        ValueError: Model, tokenizer and template do not fit each other.
    """
    module, _ = build_model(recipe)
    inputs = module.input_spec
    assert isinstance(inputs, InputSpec)
    backbone = recipe.model["init_args"]["backbone"]["init_args"]
    folder = local_folder(backbone["source"], backbone.get("revision", "main"), weights=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=sys.maxsize)  # it would warn; `measure` tells
    # Planning gave the model a tokenizer of special tokens only; the placeholder's number is the config's.
    image_token = tokenizer.convert_ids_to_tokens(inputs.tokenizer.convert_tokens_to_ids(inputs.image_token))
    inputs = replace(inputs, tokenizer=tokenizer, image_token=image_token)
    return Processor(inputs, data.template, data.num_frames)


def measure(contents: Sequence[Contents], processor: Processor) -> tuple[list[list[Length]], list[Fault]]:
    """Give the lengths of each part's records, and name those that are too long for the model or its packed rows.

    Args:
        contents: The records.
        processor: Of a model.
    """
    lengths: list[list[Length]] = []
    faults: list[Fault] = []
    for part in contents:
        most = min(part.part.row_length or processor.inputs.max_length, processor.inputs.max_length)
        limit = "model" if most == processor.inputs.max_length else "packed row"
        of_part: list[Length] = []
        for first in range(0, len(part.records), _AT_ONCE):
            records = part.records[first : first + _AT_ONCE]
            for record, positions in zip(records, record_lengths(records, processor), strict=True):
                of_part.append(Length(positions, record.origin, record.id))
                if positions > most:
                    reason = f"got {positions} positions, expected at most the {limit}'s {most}"
                    faults.append(Fault(record.origin, record.id, "", reason))
        lengths.append(of_part)
    return lengths, faults
