"""What the data side and the model side agree on: batches, media and the model's demands on its inputs.

Axes: b samples | l text positions, visual placeholders included | f frames and tiles of all media of a batch
| H W pixel rows, columns | p prompt tokens of the aligner's text tower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict

from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100
"""Label of a position that carries no loss (PyTorch's and transformers' default)."""

MediaKind = Literal["image", "multi_image", "video"]
"""``image``: the only image of a sample, possibly tiled; ``multi_image``: one of several; ``video``: sampled frames."""


class MediumInfo(NamedTuple):
    """Everything about one medium of a batch except its pixels."""

    sample: int
    """Row of the batch the medium belongs to."""
    kind: MediaKind
    num_frames: int
    """Frames of a video; views of an image (1, or 1 + its tiles)."""
    image_size: tuple[int, int]
    """Upright (height, width) of the original, in pixels."""
    key: str
    """Stable identity of the pixels, for feature caches; empty means: do not cache."""


class Batch(TypedDict):
    """A padded batch of conversations and their media."""

    input_ids: Int64[Tensor, "b l"]
    attention_mask: Int64[Tensor, "b l"]
    labels: Int64[Tensor, "b l"]
    """Next-token targets, not shifted; ``IGNORE_INDEX`` on prompts, visual tokens and padding."""
    pixel_values: UInt8[Tensor, "f 3 H W"]
    """Resized but not normalised; frames follow the order of ``media``. Empty (f = 0) without media."""
    media: list[MediumInfo]
    """In the order of their placeholders: row by row, left to right."""
    prompts: list[str]
    """The text each row's media are scored against."""
    prompt_ids: Int64[Tensor, "b p"] | None
    """``prompts`` for the aligner's text tower; None when the model has no aligner."""
    ids: list[str]
    categories: list[str]
    """A label to group accuracies by; empty when a record has none."""
    answers: list[str]
    """The reference answer of each row's last turn; empty when unknown."""


@dataclass(frozen=True)
class InputSpec:
    """What a model demands of its inputs; data modules read it from ``trainer.lightning_module.input_spec``."""

    tokenizer: PreTrainedTokenizerBase
    image_token: str
    """The tokenizer's placeholder: the collator writes it once per visual token."""
    image_size: int
    """Side of the vision tower's square input, in pixels."""
    grid_size: tuple[int, int]
    """Rows and columns of patches the tower makes of one frame."""
    image_grid_pinpoints: tuple[tuple[int, int], ...]
    """(height, width) canvases an image may be tiled on (LLaVA-NeXT "anyres"); empty: one view per image."""
    num_visual_tokens: Callable[[MediumInfo], int]
    """Placeholders a medium needs, newline tokens included; pure arithmetic."""
    tokenize_prompts: Callable[[list[str]], Tensor] | None
    """The aligner's tokenizer, (b,) strings -> (b, p) ids; None without an aligner."""
    max_length: int
    """Positions the language model can attend to."""


class ContrastiveBatch(TypedDict):
    """Frames or images, texts, and which of them match."""

    pixel_values: UInt8[Tensor, "n 3 H W"]
    prompt_ids: Int64[Tensor, "m p"]
    positives: Bool[Tensor, "n m"]
    """Text j describes frame i, or something in it."""
    regions: Bool[Tensor, "n h w"] | None
    """Patches of frame i that show what text i names; None where nobody knows. Needs n = m."""
    categories: list[str]
    """How text j names its object; groups the pointing accuracy."""
