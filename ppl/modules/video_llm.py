"""The paper's figure in code: frames and a prompt go in, visual tokens chosen by the prompt reach the language model.

Axes: f frames of a batch | t h w frames, rows, columns of one medium | c vision channels | d language channels
| e joint embedding of the aligner | n visual tokens | b l batch, positions.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from transformers import Cache
from transformers.generation.streamers import BaseStreamer

from ppl.batches import Batch, InputSpec, MediaKind, MediumInfo
from ppl.functional.noise import add_embedding_noise
from ppl.functional.splicing import splice_visual_tokens
from ppl.modules.aligner_patches import check_aligner, encode_frames, split_grid
from ppl.modules.aligners.base import Aligner
from ppl.modules.backbones.base import Backbone, joined
from ppl.modules.feature_cache import FeatureCache, check_pixels
from ppl.modules.generation import Generation, generate
from ppl.modules.pool_site import PoolSite, check_grid, pool_and_project, pooled_size
from ppl.modules.poolers.base import Pooler
from ppl.modules.positions import GridPositions
from ppl.modules.stopping import Cancelled
from ppl.modules.taking_part import is_sharded, take_part, with_blanks
from ppl.modules.tower_identity import autocast_precision, weights_identity


class VideoLLM(nn.Module):
    """A backbone whose visual tokens are pooled under the prompt's guidance.

    Args:
        backbone: Vision tower, projector and language model.
        pooler: Reduces a patch grid to fewer tokens.
        aligner: Scores patches against the prompt; needed by poolers that use relevance.
        positions: Added to patches before pooling.
        pool_site: Pool before the projector (the papers) or after it (the released PPLLaVA code); for InternVL, before
            its blocks of patches are merged or after.
        cache: Keeps the frozen tower's output by medium.

    Raises:
        ValueError: The pooler needs an aligner, or a grid that the backbone's frames do not form; or the aligner cannot
            read the backbone's patches.
    """

    def __init__(
        self,
        backbone: Backbone,
        pooler: Pooler,
        aligner: Aligner | None = None,
        positions: GridPositions | None = None,
        pool_site: PoolSite = "pre_projector",
        cache: FeatureCache | None = None,
    ) -> None:
        super().__init__()
        if pooler.uses_relevance and aligner is None:
            msg = f"got {type(pooler).__name__} without an aligner, expected one to score patches: set model.aligner"
            raise ValueError(msg)
        check_grid(backbone, pooler)
        if aligner is not None:
            check_aligner(backbone, aligner)
        self.backbone = backbone
        self.pooler = pooler
        self.aligner = aligner
        self.positions = positions
        self.pool_site: PoolSite = pool_site
        self.cache = cache
        self._tower_identity: str | None = None
        self.is_set_up = False  # by `ppl.modules.sharding.set_up`

    @property
    def input_spec(self) -> InputSpec:
        """What the data side must know to prepare inputs."""
        return InputSpec(
            tokenizer=self.backbone.tokenizer,
            image_token=self.backbone.spec.image_token,
            image_size=self.backbone.image_size,
            grid_size=self.backbone.grid_size,
            image_grid_pinpoints=self.backbone.spec.image_grid_pinpoints,
            num_visual_tokens=self.num_visual_tokens,
            tokenize_prompts=self.aligner.tokenize if self.aligner is not None else None,
            max_length=self.backbone.max_length,
            pixels=self.backbone.spec.pixels,
            media_text=self.backbone.spec.media_text,
            token_groups=self.token_groups,
            caches_features=self.cache is not None,
        )

    def files(self) -> dict[str, str]:
        """Configs and tokenizer of backbone and aligner, as relative path -> text: the model without its weights."""
        files = {f"backbone/{name}": text for name, text in self.backbone.files().items()}
        if self.aligner is not None:
            files |= {f"aligner/{name}": text for name, text in self.aligner.files().items()}
        return files

    def num_visual_tokens(self, medium: MediumInfo) -> int:
        """Tokens one medium becomes, newlines included; pure arithmetic."""
        pooled, grid = pooled_size(self.backbone, self.pooler, self.pool_site, medium)
        return self.backbone.num_tokens(pooled, grid, medium)

    def token_groups(self, medium: MediumInfo) -> list[int]:
        """Tokens of each stretch that gets text of its own: each pooled frame where frames are labelled, else all."""
        total = self.num_visual_tokens(medium)
        _, grid = pooled_size(self.backbone, self.pooler, self.pool_site, medium)
        if medium.kind != "video" or grid is None or not self.backbone.spec.media_text.frame_label:
            return [total]
        assert total % grid[0] == 0, "newlines that are no frame's cannot be labelled"
        return [total // grid[0]] * grid[0]

    def encode(
        self, pixel_values: UInt8[Tensor, "f 3 H W"], media: list[MediumInfo]
    ) -> list[Float[Tensor, "_t _h _w c"]]:
        """Run each vision tower once over the frames of all media that are not cached; one grid a medium.

        Media of one key have the same pixels, and are encoded once; media whose frames see each other, one by one.
        """
        tower_trains = any(p.requires_grad for p in self.backbone.vision_tower.parameters())
        if tower_trains and self.cache is not None:
            msg = "got a feature cache with a vision tower that trains, expected a frozen one: set cache: null"
            raise ValueError(msg)
        frames = pixel_values.split([m.num_pixel_frames for m in media])
        keys = [self.cache_key(m) for m in media]
        grids = [self.cache.get(key) if self.cache is not None else None for key in keys]
        first: dict[str | int, int] = {}
        sources = [first.setdefault(m.key or i, i) for i, m in enumerate(media)]
        missing = [i for i, grid in enumerate(grids) if grid is None and sources[i] == i]
        check_pixels([media[i] for i in missing])
        spec = self.backbone.spec
        together: dict[tuple[str, int | None], list[int]] = {}
        for i in missing:
            alone = i if media[i].kind in spec.mixed_kinds else None
            together.setdefault((spec.tower(media[i].kind), alone), []).append(i)
        for _, members in sorted(together.items(), key=lambda item: spec.towers.index(item[0][0])):  # on every process
            with nullcontext() if tower_trains else torch.no_grad():
                pixels = joined([frames[i] for i in members])
                encoded = encode_frames(self.backbone, self.aligner, pixels, media[members[0]].kind)
            for i, grid in zip(members, encoded.split([media[i].num_frames for i in members]), strict=True):
                grids[i] = self.cache.put(keys[i], grid) if self.cache is not None else grid
        tower = next(self.backbone.vision_tower.parameters())
        return [grid.to(tower.device, tower.dtype) for grid in (grids[i] for i in sources) if grid is not None]

    def relevance(self, grid: Float[Tensor, "*b t h w c"], prompt: Float[Tensor, "*b e"]) -> Float[Tensor, "*b t h w"]:
        """Score patches against embedded prompts, one medium or a stack of equal shapes."""
        if self.aligner is None:
            msg = "got a model without an aligner, expected one to score patches: set model.aligner"
            raise ValueError(msg)
        return self.aligner.relevance(split_grid(grid, self.aligner)[1], prompt)

    def pool_and_project(
        self, grid: Float[Tensor, "*b t h w c"], prompt: Float[Tensor, "*b e"] | None, kind: MediaKind
    ) -> Float[Tensor, "*b n d"]:
        """Pool the patches of one medium, or of a stack of equal shapes, and project them."""
        relevance = self.relevance(grid, prompt) if self.pooler.uses_relevance and prompt is not None else None
        values, _ = split_grid(grid, self.aligner)
        values = self.positions(values) if self.positions is not None else values
        return pool_and_project(self.backbone, self.pooler, self.pool_site, values, relevance, kind)

    def visual_tokens(
        self, grids: list[Float[Tensor, "_t _h _w c"]], media: list[MediumInfo], prompts: Float[Tensor, "b e"] | None
    ) -> Float[Tensor, "n d"]:
        """Turn grids into the language model's tokens, medium after medium; equal shapes are computed together.

        Args:
            grids: What `encode` returned for ``media``.
            media: Their description.
            prompts: Embedded prompts of the batch's rows; None for poolers without relevance.
        """
        groups: dict[tuple[MediaKind, torch.Size], list[int]] = {}
        for i, (grid, medium) in enumerate(zip(grids, media, strict=True)):
            groups.setdefault((medium.kind, grid.shape), []).append(i)
        tokens: dict[int, Tensor] = {}
        for (kind, _), members in groups.items():
            rows = None if prompts is None else prompts[[media[i].sample for i in members]]
            stack = joined([grids[i][None] for i in members])
            pooled = self.pool_and_project(stack, rows, kind)
            tokens |= dict(zip(members, pooled, strict=True))
        return torch.cat([self._lay_out(tokens[i], medium) for i, medium in enumerate(media)])

    def embed_prompts(self, prompt_ids: Int64[Tensor, "b p"] | None) -> Float[Tensor, "b e"] | None:
        """Embed the prompts if the pooler reads relevance; otherwise None."""
        if not self.pooler.uses_relevance or self.aligner is None or prompt_ids is None:
            return None
        return self.aligner.embed_prompts(prompt_ids)

    def embed(self, batch: Batch) -> Float[Tensor, "b l d"]:
        """Embed a batch, visual tokens in place."""
        embeds = self.backbone.embed(batch["input_ids"])
        own = len(batch["media"])
        pixels, media = with_blanks(self.backbone, batch["pixel_values"], batch["media"])
        grids = self.encode(pixels, media) if media else []
        joint = self.aligner is not None and is_sharded(self.aligner.text_tower)
        prompts = self.embed_prompts(batch["prompt_ids"]) if own or joint else None
        if own:
            tokens = self.visual_tokens(grids[:own], batch["media"], prompts)
            embeds = splice_visual_tokens(embeds, batch["input_ids"], tokens, self.backbone.image_token_id)
        idle = [*grids[own:], *([prompts] if prompts is not None and not own else [])]
        return take_part(embeds, self, self.backbone.language_model, idle)

    def forward(self, batch: Batch, noise_alpha: float = 0.0) -> Float[Tensor, "b l v"]:
        """Logits of every position of a batch; with noise, see `ppl.functional.noise.add_embedding_noise`."""
        embeds, segments = self.embed(batch), batch["attention_mask"]
        if noise_alpha:
            is_text = batch["input_ids"] != self.backbone.image_token_id
            embeds = add_embedding_noise(embeds, is_text, segments, noise_alpha)
        return self.backbone(embeds, segments)

    def generate(
        self,
        inputs_embeds: Float[Tensor, "b l d"],
        attention_mask: Int64[Tensor, "b l"],
        generation: Generation = Generation(),  # noqa: B008  frozen
        *,
        streamer: BaseStreamer | None = None,
        cancelled: Cancelled | None = None,
        cache: Cache | None = None,
    ) -> Int64[Tensor, "b k"]:
        """Answer left-padded embeddings, at most to the end of the context; only the new tokens are returned.

        See `ppl.modules.generation.generate` and `Generation.within`.
        """
        generation = generation.within(self.backbone.max_length, int(attention_mask.sum(dim=1).max()))
        hf, tokenizer = self.backbone.hf, self.backbone.tokenizer
        return generate(
            hf,
            tokenizer,
            inputs_embeds,
            attention_mask,
            generation,
            streamer=streamer,
            cancelled=cancelled,
            cache=cache,
        )

    def tower_identity(self) -> str:
        """What decides the features of a medium beside its pixels, and so belongs to its key in a shared cache."""
        if self._tower_identity is None:
            self._tower_identity = weights_identity(self.backbone, self.aligner)
        return self._tower_identity + autocast_precision(self.backbone.vision_tower)

    def cache_key(self, medium: MediumInfo) -> str:
        """What the cache keeps a medium by: runs with other towers may share its folder. Empty: it does not."""
        return f"{self.tower_identity()}|{medium.key}" if self.cache is not None and medium.key else ""

    def _lay_out(self, tokens: Float[Tensor, "n d"], medium: MediumInfo) -> Float[Tensor, "m d"]:
        _, grid = pooled_size(self.backbone, self.pooler, self.pool_site, medium)
        return self.backbone.layout(tokens, grid, medium)
