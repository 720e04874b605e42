"""One adapter over transformers' video language models; what differs between them is data in a `BackboneSpec`.

Axes: t h w frames, rows, columns | c vision channels | k channels the projector takes | d language channels
| n m visual tokens | b l batch, positions.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from ppl.batches import MediaKind, MediumInfo
from ppl.functional.anyres import best_resolution, num_packed_tokens, pack_tiles
from ppl.functional.newlines import add_newlines, num_with_newlines
from ppl.functional.space_to_depth import space_to_depth
from ppl.functional.windows import Size3
from ppl.modules.backbones.packed_rows import last_hidden_state
from ppl.modules.backbones.rotary_precision import kept_rotary
from ppl.modules.backbones.spec import BackboneSpec
from ppl.modules.backbones.vision_digest import vision_digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Backbone(nn.Module):
    """Vision tower, projector and language model of one transformers model, step by step.

    The steps call the model's own modules (its vision towers, ``multi_modal_projector``, ``language_model``,
    ``lm_head``) and patch none of its methods: frames -> `encode_frames` -> grid -> `pre_project` -> `project` ->
    `layout` -> tokens -> `forward` or `generate`, with pooling before or after any of the middle three.

    Args:
        hf: A ``...ForConditionalGeneration`` model of transformers >= 5.6.
        tokenizer: Its tokenizer.
        spec: What is particular to its class.
        frames_per_forward: Frames the vision tower encodes at a time, which bounds its memory; None: all at once. A
            tower that trains keeps every chunk's activations, so that nothing is saved.

    Raises:
        ValueError: No frame is to be encoded at a time, or frames are not square.
    """

    hf: Any
    """Typed loosely: transformers' classes share these attributes, but no interface that declares them."""

    def __init__(
        self,
        hf: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        spec: BackboneSpec,
        frames_per_forward: int | None = None,
    ) -> None:
        super().__init__()
        if frames_per_forward is not None and frames_per_forward < 1:
            msg = f"got frames_per_forward={frames_per_forward}, expected at least 1, or null for all at once"
            raise ValueError(msg)
        self.hf = hf
        self.tokenizer = tokenizer
        self.spec = spec
        self.frames_per_forward = frames_per_forward
        self.image_size = _side(hf.config.vision_config.image_size, "image_size")
        """Side of the vision tower's input, in pixels."""
        side = self.image_size // _side(hf.config.vision_config.patch_size, "patch_size")
        self.grid_size: tuple[int, int] = (side, side)
        """Rows and columns of patches in one frame."""

    @property
    def vision_tower(self) -> nn.Module:
        """Encodes frames to patches; of a model with several towers, all of them."""
        towers = {name: getattr(self.hf.model, name) for name in self.spec.towers}
        return next(iter(towers.values())) if len(towers) == 1 else nn.ModuleDict(towers)

    @property
    def projector(self) -> nn.Module:
        """Maps patches to the language model's embedding space."""
        return self.hf.model.multi_modal_projector

    @property
    def language_model(self) -> nn.Module:
        """The decoder without its head."""
        return self.hf.model.language_model

    @property
    def image_token_id(self) -> int:
        """Id of the placeholder that a visual token replaces."""
        return self.hf.config.image_token_id

    @property
    def max_length(self) -> int:
        """Positions the language model was configured for."""
        return self.hf.config.text_config.max_position_embeddings

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Backbone:
        """Move and convert all but the precision of rotary frequencies."""
        with kept_rotary(self.hf):
            return super()._apply(fn, recurse)

    def parts(self) -> Iterator[tuple[str, list[nn.Parameter]]]:
        """Name every parameter's part exactly once: vision tower, language model, and the projector with the rest."""
        vision = list(self.vision_tower.parameters())
        language = list(dict.fromkeys([*self.language_model.parameters(), *self.hf.lm_head.parameters()]))
        projector = list(self.projector.parameters())
        named = {*vision, *language, *projector}
        yield "vision_tower", vision
        yield "projector", [*projector, *(parameter for parameter in self.hf.parameters() if parameter not in named)]
        yield "language_model", language

    def vision_identity(self) -> str:
        """A digest of all that decides what `encode_frames` returns: weights, config, layer and normalisation."""
        return vision_digest(self.vision_tower, self.hf.config, self.spec)

    def files(self) -> dict[str, str]:
        """Config and tokenizer files in the hub's layout, as name -> text."""
        with tempfile.TemporaryDirectory() as folder:
            self.hf.config.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            return {file.name: file.read_text() for file in Path(folder).iterdir()}

    def frame_size(self, kind: MediaKind) -> tuple[int, int]:
        """Rows and columns of an encoded frame: its patches; or, in one column, its class token and patches."""
        rows, columns = self.grid_size
        return (rows * columns + 1, 1) if kind in self.spec.cls_kept else (rows, columns)

    def encode_frames(self, pixels: UInt8[Tensor, "t 3 H W"], kind: MediaKind = "video") -> Float[Tensor, "t h w c"]:
        """Run the vision tower over frames and take the patches of the configured layer, class token removed.

        Frames of one of the spec's ``mixed_kinds`` must be one medium, and are not encoded in chunks.
        """
        step = len(pixels) if kind in self.spec.mixed_kinds else self.frames_per_forward or len(pixels)
        chunks = pixels.split(step) if len(pixels) > step else [pixels]
        return joined([self._encode(chunk, kind) for chunk in chunks])

    def pre_project(self, grid: Float[Tensor, "*b t h w c"]) -> Float[Tensor, "*b t H W k"]:
        """Merge blocks of patches into the tokens that the projector takes; most models take patches as they are."""
        return space_to_depth(grid, self.spec.merge)

    def project(self, features: Float[Tensor, "*g k"]) -> Float[Tensor, "*g d"]:
        """Map vision features to the language model's embedding space, position by position."""
        return self.projector(features)

    def tiles(self, medium: MediumInfo) -> tuple[int, int] | None:
        """Rows and columns of tiles an image was cut into; None for videos and untiled images."""
        spec = self.spec
        if medium.kind not in spec.pixels.tiled_kinds or not spec.image_grid_pinpoints:
            return None
        height, width = best_resolution(medium.image_size, spec.image_grid_pinpoints)
        return height // self.image_size, width // self.image_size

    def layout(self, tokens: Float[Tensor, "n d"], grid: Size3 | None, medium: MediumInfo) -> Float[Tensor, "m d"]:
        """Arrange one medium's projected tokens for the language model, newline tokens included.

        Tokens that no longer form a grid have no rows, frames or tiles, and stay flat.
        """
        where = self.spec.layout(medium.kind)
        if where == "none" or (grid is None and where == "packed"):
            return tokens
        newline = self.hf.model.image_newline
        if where != "packed":
            return add_newlines(tokens, grid, newline, where)
        assert grid is not None
        views = tokens.unflatten(0, grid)
        return pack_tiles(views, _size_in_tokens(grid, medium), self.tiles(medium), newline, self.spec.max_tiles)

    def num_tokens(self, num_pooled: int, grid: Size3 | None, medium: MediumInfo) -> int:
        """Length of `layout`'s result; pure arithmetic."""
        where = self.spec.layout(medium.kind)
        if where != "packed":
            return num_with_newlines(num_pooled, grid, where)
        if grid is None:
            return num_pooled
        size = _size_in_tokens(grid, medium)
        return num_packed_tokens(grid[1], grid[2], size, self.tiles(medium), self.spec.max_tiles)

    def embed(self, input_ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """Embed text ids; placeholders get their own embedding, to be replaced by visual tokens."""
        return self.hf.get_input_embeddings()(input_ids)

    def forward(
        self, inputs_embeds: Float[Tensor, "b l d"], attention_mask: Int64[Tensor, "b l"]
    ) -> Float[Tensor, "b l v"]:
        """Run the language model on spliced embeddings and return its logits.

        Args:
            inputs_embeds: Rows of one sample, or packed rows of several.
            attention_mask: 0 on padding, 1 elsewhere; in packed rows the samples are 1, 2, ….
        """
        return self.hf.lm_head(last_hidden_state(self.language_model, inputs_embeds, attention_mask))

    def _encode(self, pixels: UInt8[Tensor, "t 3 H W"], kind: MediaKind) -> Float[Tensor, "t h w c"]:
        tower = getattr(self.hf.model, self.spec.tower(kind))
        # fp32 whatever the module's and the default dtype: in bf16 the mean is off by up to 1/4 grey level
        mean, std = (
            255 * torch.tensor(values, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
            for values in (self.spec.image_mean, self.spec.image_std)
        )
        normal = ((pixels - mean) / std).to(next(tower.parameters()).dtype)
        layer = self.hf.config.vision_feature_layer
        if self.spec.output_is_last_layer and layer == -1:
            hidden = tower(normal, return_dict=True).last_hidden_state
        else:
            layers = [layer] if isinstance(layer, int) else layer
            hidden = joined(self._hidden_states(tower, normal, kind, layers), dim=-1)
        if kind in self.spec.cls_kept:
            return hidden[:, :, None]
        patches = hidden[:, 1:] if self.spec.has_cls else hidden
        side = math.isqrt(patches.shape[1])
        return patches.unflatten(1, (side, side))

    def _hidden_states(
        self, tower: nn.Module, pixels: Float[Tensor, "t 3 H W"], kind: MediaKind, layers: Sequence[int]
    ) -> list[Float[Tensor, "t s c"]]:
        """What some of a tower's layers leave, and no other is kept; 0 are the embeddings, -1 is the last layer."""
        del kind  # for towers that treat some kinds otherwise
        states = tower(pixels, output_hidden_states=list(layers), return_dict=True).hidden_states
        return [states[layer] for layer in layers]


def joined(tensors: list[Tensor], dim: int = 0) -> Tensor:
    """`torch.cat`, which copies a single tensor too, without that copy."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=dim)


def _side(value: int | list[int] | tuple[int, ...], name: str) -> int:
    """Side of a square that transformers' configs give as one or two numbers."""
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1:
        msg = f"got vision_config.{name}={value}, expected a square: backbones with other frames are not supported"
        raise ValueError(msg)
    return sides.pop()


def _size_in_tokens(grid: Size3, medium: MediumInfo) -> tuple[int, int]:
    """Stretch the image's size as pooling stretched its views, so that padding is found where it is.

    Views are square and so are unpooled tokens; windows of 3 x 2 patches, say, are not.
    """
    height, width = medium.image_size
    return (height, width) if grid[1] == grid[2] else (height * grid[1], width * grid[2])
