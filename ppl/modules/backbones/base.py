"""One adapter over transformers' video language models; what differs between them is data in a `BackboneSpec`.

Axes: t h w frames, rows, columns | c vision channels | d language channels | n visual tokens | b l batch, positions.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from ppl.batches import MediumInfo
from ppl.functional.anyres import best_resolution, num_packed_tokens, pack_tiles
from ppl.functional.windows import Size3

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class BackboneSpec:
    """Everything the adapter must know about one transformers class."""

    image_token: str
    has_cls: bool
    """The vision tower's first token is a class token, not a patch."""
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    image_grid_pinpoints: tuple[tuple[int, int], ...]
    """(height, width) canvases for tiled images; empty: images are one view."""


class Backbone(nn.Module):
    """Vision tower, projector and language model of one transformers model, step by step.

    The steps call the model's own modules (``vision_tower``, ``multi_modal_projector``, ``language_model``,
    ``lm_head``) and patch none of its methods: frames -> `encode_frames` -> grid -> pooling -> `project` -> `layout`
    -> tokens -> `forward` or `generate`.

    Args:
        hf: A ``...ForConditionalGeneration`` model of transformers >= 5.6.
        tokenizer: Its tokenizer.
        spec: What is particular to its class.
    """

    hf: Any
    """Typed loosely: transformers' classes share these attributes, but no interface that declares them."""

    def __init__(self, hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, spec: BackboneSpec) -> None:
        super().__init__()
        self.hf = hf
        self.tokenizer = tokenizer
        self.spec = spec

    @property
    def vision_tower(self) -> nn.Module:
        """Encodes frames to patches."""
        return self.hf.model.vision_tower

    @property
    def projector(self) -> nn.Module:
        """Maps patches to the language model's embedding space."""
        return self.hf.model.multi_modal_projector

    @property
    def language_model(self) -> nn.Module:
        """The decoder without its head."""
        return self.hf.model.language_model

    @property
    def image_size(self) -> int:
        """Side of the vision tower's input, in pixels."""
        return self.hf.config.vision_config.image_size

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches in one frame."""
        side = self.image_size // self.hf.config.vision_config.patch_size
        return side, side

    @property
    def image_token_id(self) -> int:
        """Id of the placeholder that a visual token replaces."""
        return self.hf.config.image_token_id

    @property
    def max_length(self) -> int:
        """Positions the language model was configured for."""
        return self.hf.config.text_config.max_position_embeddings

    def parts(self) -> Iterator[tuple[str, list[nn.Parameter]]]:
        """Name every parameter's part exactly once: vision tower, projector, language model."""
        yield "vision_tower", list(self.vision_tower.parameters())
        yield "projector", [*self.projector.parameters(), self.hf.model.image_newline]
        tied_once = dict.fromkeys([*self.language_model.parameters(), *self.hf.lm_head.parameters()])
        yield "language_model", list(tied_once)

    def vision_identity(self) -> str:
        """A digest of all that decides what `encode_frames` returns: weights, layer and normalisation."""
        digest = hashlib.sha256(repr((self.spec, self.hf.config.vision_feature_layer)).encode())
        for name, tensor in self.vision_tower.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def files(self) -> dict[str, str]:
        """Config and tokenizer files in the hub's layout, as name -> text."""
        with tempfile.TemporaryDirectory() as folder:
            self.hf.config.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            return {file.name: file.read_text() for file in Path(folder).iterdir()}

    def encode_frames(self, pixels: UInt8[Tensor, "t 3 H W"]) -> Float[Tensor, "t h w c"]:
        """Run the vision tower over frames and take the patches of the configured layer, class token removed."""
        dtype = next(self.vision_tower.parameters()).dtype
        (
            mean,
            std,
        ) = (  # fp32 whatever the module's and the default dtype: in bf16 the mean is off by up to 1/4 grey level
            255 * torch.tensor(values, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
            for values in (self.spec.image_mean, self.spec.image_std)
        )
        normal = (pixels - mean) / std
        layer = self.hf.config.vision_feature_layer
        output = self.vision_tower(normal.to(dtype), output_hidden_states=True, return_dict=True)
        layers = [layer] if isinstance(layer, int) else layer
        hidden = torch.cat([output.hidden_states[i] for i in layers], dim=-1)
        patches = hidden[:, 1:] if self.spec.has_cls else hidden
        side = math.isqrt(patches.shape[1])
        return patches.unflatten(1, (side, side))

    def project(self, features: Float[Tensor, "*g c"]) -> Float[Tensor, "*g d"]:
        """Map vision features to the language model's embedding space, position by position."""
        return self.projector(features)

    def tiles(self, medium: MediumInfo) -> tuple[int, int] | None:
        """Rows and columns of tiles an image was cut into; None for videos and untiled images."""
        if medium.kind != "image" or not self.spec.image_grid_pinpoints:
            return None
        height, width = best_resolution(medium.image_size, self.spec.image_grid_pinpoints)
        return height // self.image_size, width // self.image_size

    def layout(self, tokens: Float[Tensor, "n d"], grid: Size3 | None, medium: MediumInfo) -> Float[Tensor, "m d"]:
        """Arrange one medium's projected tokens for the language model, newline tokens included.

        Images are packed as LLaVA-NeXT does (base view, then the unpadded tiles, a newline after each row); videos,
        several images, and tokens that no longer form a grid stay flat, as in PPLLaVA.
        """
        if medium.kind != "image" or grid is None:
            return tokens
        views = tokens.unflatten(0, grid)
        return pack_tiles(views, _size_in_tokens(grid, medium), self.tiles(medium), self.hf.model.image_newline)

    def num_tokens(self, num_pooled: int, grid: Size3 | None, medium: MediumInfo) -> int:
        """Length of `layout`'s result; pure arithmetic."""
        if medium.kind != "image" or grid is None:
            return num_pooled
        return num_packed_tokens(grid[1], grid[2], _size_in_tokens(grid, medium), self.tiles(medium))

    def embed(self, input_ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """Embed text ids; placeholders get their own embedding, to be replaced by visual tokens."""
        return self.hf.get_input_embeddings()(input_ids)

    def forward(
        self, inputs_embeds: Float[Tensor, "b l d"], attention_mask: Int64[Tensor, "b l"]
    ) -> Float[Tensor, "b l v"]:
        """Run the language model on spliced embeddings and return its logits."""
        hidden = self.language_model(inputs_embeds=inputs_embeds, attention_mask=attention_mask).last_hidden_state
        return self.hf.lm_head(hidden)


def _size_in_tokens(grid: Size3, medium: MediumInfo) -> tuple[int, int]:
    """Stretch the image's size as pooling stretched its views, so that padding is found where it is.

    Views are square and so are unpooled tokens; windows of 3 x 2 patches, say, are not.
    """
    height, width = medium.image_size
    return (height, width) if grid[1] == grid[2] else (height * grid[1], width * grid[2])
