"""What the data side and the model side agree on: batches, media and the model's demands on its inputs.

Axes: b rows | n samples, as many as rows unless rows are packed | l text positions, visual placeholders included
| f frames and tiles of all media of a batch | H W pixel rows, columns | p prompt tokens of the aligner's text tower.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict

from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100
"""Label of a position that carries no loss (PyTorch's and transformers' default)."""

BLANK = ""
"""Id of a sample that fills up a process's share of a dataset: it counts nowhere, and has no labels unless a pair."""

MediaKind = Literal["image", "multi_image", "video"]
"""``image``: the only image of a sample, possibly tiled; ``multi_image``: one of several; ``video``: sampled frames."""


class MediumInfo(NamedTuple):
    """Everything about one medium of a batch except its pixels."""

    sample: int
    """Number of the sample in the batch that the medium belongs to: of its id, its prompt, …"""
    kind: MediaKind
    num_frames: int
    """Frames of a video; views of an image (1, or 1 + its tiles)."""
    image_size: tuple[int, int]
    """Upright (height, width) of the original, in pixels."""
    key: str
    """Stable identity of the pixels, for feature caches; empty means: do not cache."""
    has_pixels: bool = True
    """False: its features are kept under its key, and none of its frames are in ``pixel_values``."""

    @property
    def num_pixel_frames(self) -> int:
        """Frames in ``pixel_values``."""
        return self.num_frames if self.has_pixels else 0


ResizeMode = Literal["squash", "crop", "pad"]
"""How frames become squares: both sides scaled on their own; the shorter side scaled and the middle of the longer kept;
or bars of one colour added to the shorter side, then both scaled. Always bicubic, smoothed where it shrinks."""

Tiling = Literal["anyres", "closest_aspect"]
"""How an image is cut. ``anyres`` (LLaVA-NeXT): the squashed whole, then tiles of the canvas that keeps most pixels,
aspect ratio kept. ``closest_aspect`` (InternVL): tiles of the canvas of the most similar shape, squashed onto it, then
the squashed whole; an image of one tile is that tile."""


@dataclass(frozen=True)
class PixelFormat:
    """How decoded pixels become what a vision tower was trained on; the colours' scale is the model's business."""

    video: ResizeMode = "squash"
    image: ResizeMode = "squash"
    """A sample's only image, if it is not tiled."""
    multi_image: ResizeMode = "squash"
    """Each of several images, if it is not tiled."""
    bars: tuple[int, int, int] = (0, 0, 0)
    """Colour of the bars of ``pad``, in grey levels of RGB."""
    tiling: Tiling = "anyres"
    tiled_kinds: tuple[MediaKind, ...] = ("image",)
    """What is tiled, if there are canvases."""

    def mode(self, kind: MediaKind) -> ResizeMode:
        """How one kind of medium becomes square where it is not tiled."""
        modes: dict[MediaKind, ResizeMode] = {
            "video": self.video,
            "image": self.image,
            "multi_image": self.multi_image,
        }
        return modes[kind]


@dataclass(frozen=True)
class MediaText:
    """Fixed text around the placeholders of a medium."""

    opening: str = ""
    """Before each stretch of placeholders."""
    closing: str = ""
    """After each stretch of placeholders."""
    frame_label: str = ""
    """Before the opening of each stretch of a video, ``{number}`` counting from 1; empty: a video is one stretch."""
    frame_separator: str = ""
    """Between the stretches of a video."""
    video_note: str = ""
    """After a video, with the fields ``{duration}`` in seconds, ``{num_frames}`` and ``{times}``: 0.00s,1.50s."""


class Batch(TypedDict):
    """A padded batch of conversations and their media.

    A row is a sample, or, in training, several one after the other (packed): see `ppl.functional.packing`.
    """

    input_ids: Int64[Tensor, "b l"]
    attention_mask: Int64[Tensor, "b l"]
    """0 on padding, 1 elsewhere; in packed rows the samples are 1, 2, …, left to right."""
    labels: Int64[Tensor, "b l"]
    """Next-token targets, not shifted; ``IGNORE_INDEX`` on prompts, visual tokens, padding, and where samples start."""
    pixel_values: UInt8[Tensor, "f 3 H W"]
    """Resized but not normalised; frames follow the order of ``media``, but for media whose features are kept.

    Empty (f = 0) without frames.
    """
    media: list[MediumInfo]
    """In the order of their placeholders: row by row, left to right."""
    prompts: list[str]
    """The text each sample's media are scored against."""
    prompt_ids: Int64[Tensor, "n p"] | None
    """``prompts`` for the aligner's text tower; None when the model has no aligner."""
    ids: list[str]
    """Of each sample, row by row, left to right; so are prompts, categories and answers."""
    categories: list[str]
    """A label to group accuracies by; empty when a record has none."""
    answers: list[str]
    """The reference answer of each sample's last turn; empty when unknown."""


class AskedBatch(Batch):
    """Left-padded prompts that share their media, whose pixels are there once: those of the first row.

    ``media`` still lists them row by row.
    """

    rows: list[str]
    """The line of each question of a benchmark, with its answer still empty."""
    rows_at_a_time: int
    """Most prompts that are pooled and answered at once."""
    max_new_tokens: int
    """Longest answer, in tokens."""


class CountingLoader(ABC):
    """A train loader that counts what it loads."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Shares and counts since the start, of this process."""


class PreferenceBatch(Batch):
    """Pairs of a better and a worse answer: twice as many rows of text as of anything else, the better ones first.

    Row i and row b + i share media, prompt, id and category, which are there once, of the pair: ``media`` count pairs.
    """

    rejected: list[str]
    """The worse answer of each pair; ``answers`` are the better ones."""


class KeptFeatures(NamedTuple):
    """Features of media in a folder, whose frames need not be decoded."""

    folder: str
    """Where they are, and what else is to be known of these media."""
    has: Callable[[str], bool]
    """Whether those of a medium's key are there, whole."""


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
    """(height, width) canvases an image may be tiled on; empty: one view per image."""
    num_visual_tokens: Callable[[MediumInfo], int]
    """Placeholders a medium needs, newline tokens included; pure arithmetic."""
    tokenize_prompts: Callable[[list[str]], Tensor] | None
    """The aligner's tokenizer, (b,) strings -> (b, p) ids; None without an aligner."""
    max_length: int
    """Positions the language model can attend to."""
    pixels: PixelFormat = PixelFormat()
    media_text: MediaText = MediaText()
    token_groups: Callable[[MediumInfo], list[int]] | None = None
    """Placeholders of each stretch of a medium, for ``media_text``; None: a medium is one stretch."""
    caches_features: bool = False
    """Whether features of a medium are kept by its key, so that every epoch has to show the same pixels."""
    kept_features: Callable[[], KeptFeatures | None] | None = None
    """Tells, in the process that is about to train, which features it will find in a folder; None: in none."""


class ContrastiveBatch(TypedDict):
    """Frames or images, texts, and which of them match."""

    kind: MediaKind
    """What the vision tower takes each frame for, all by itself: an ``image``, or a single frame of a ``video``."""
    pixel_values: UInt8[Tensor, "n 3 H W"]
    prompt_ids: Int64[Tensor, "m p"]
    positives: Bool[Tensor, "n m"]
    """Text j describes frame i, or something in it. If none does, the batch fills up a share, and counts nowhere."""
    regions: Bool[Tensor, "n h w"] | None
    """Patches of frame i that show what text i names; None where nobody knows. Needs n = m."""
    categories: list[str]
    """How text j names its object; groups the pointing accuracy."""
