"""Operations of one question about one video, stage by stage, from the sizes of a model on the meta device."""

from __future__ import annotations

from typing import Any, NamedTuple

from ppl.functional.flops import Work, attention_work, linear_work, patch_embedding_work
from ppl.modules.backbones.base import Backbone
from ppl.modules.backbones.bt_adapter import BTAdapter
from ppl.modules.matrices import matrices
from ppl.modules.video_llm import VideoLLM
from ppl.planning.media import MediumTokens, patch_grid
from ppl.planning.sizes import elements, frame_tokens, language_layer, tower, vision_layer, without_branch


class Text(NamedTuple):
    """Tokens around a medium."""

    prompt: int
    """Of the question and the system's words; also what the aligner's text tower reads."""
    answer: int


class SampleWork(NamedTuple):
    """Operations of one sample."""

    vision: Work
    aligner: Work
    projector: Work
    prefill: Work
    """The language model over visual tokens and prompt, its head at the last position."""
    per_token: Work
    """One further token, behind visual tokens, prompt and half of the answer."""
    training: Work
    """Everything over visual tokens, prompt and answer, the head at every position."""
    layers: Work
    """Of ``training``, the language model's layers: what activation checkpointing computes again."""

    def as_numbers(self) -> dict[str, int]:
        """Operations by stage; ``first_token`` is the sum of the first four."""
        first = self.vision + self.aligner + self.projector + self.prefill
        return {
            "vision": self.vision.forward,
            "aligner": self.aligner.forward,
            "projector": self.projector.forward,
            "prefill": self.prefill.forward,
            "first_token": first.forward,
            "per_token": self.per_token.forward,
            "training_forward": self.training.forward,
            "training_backward": self.training.backward,
            "training": self.training.forward + self.training.backward,
            "checkpointing": self.layers.forward,
        }


def sample_work(model: VideoLLM, medium: MediumTokens, text: Text, *, is_pooled: bool = True) -> SampleWork:
    """Count one sample, with the recipe's pooler or with every patch kept and no aligner."""
    backbone = model.backbone
    vision = _vision(backbone, medium)
    aligner = _aligner(model, medium, text.prompt) if is_pooled else Work()
    weights = matrices(backbone.projector)
    projected = medium.projected if is_pooled else medium.projected_unpooled
    before = (
        any(p.requires_grad for p in backbone.vision_tower.parameters())
        or aligner.trained > 0
        or model.positions is not None
    )
    projector = linear_work(projected, elements(weights), elements(weights, trained=True), before=before)
    start = (medium.pooled if is_pooled else medium.unpooled) + medium.text + text.prompt
    before = before or any(p.requires_grad for p in backbone.projector.parameters())
    layers = _layers(backbone, start + text.answer, before=before)
    head = _head(backbone, start + text.answer, before=layers.has_gradient)
    last = start + text.answer // 2 + 1
    return SampleWork(
        vision=vision,
        aligner=aligner,
        projector=projector,
        prefill=_layers(backbone, start, before=before) + _head(backbone, 1, before=before),
        per_token=_layers(backbone, 1, last, before=before) + _head(backbone, 1, before=before),
        training=_sum(vision, aligner, projector, layers, head),
        layers=layers,
    )


def _sum(*stages: Work) -> Work:
    """Stages whose gradients are each their own business: only passes that take place are counted."""
    backward = sum(stage.backward for stage in stages)
    linear, attention = (sum(getattr(stage, name) for stage in stages) for name in ("linear", "attention"))
    return Work(linear, attention, backward, has_gradient=False)


def _vision(backbone: Backbone, medium: MediumTokens) -> Work:
    whole, branch = without_branch(backbone)
    module: Any = whole if len(backbone.spec.towers) == 1 else tower(backbone, medium.kind)
    layer, layers = vision_layer(backbone.hf.config.vision_config)
    weights, tokens = matrices(module), frame_tokens(backbone)
    trains = any(p.requires_grad for p in module.parameters())
    patches = backbone.grid_size[0] * backbone.grid_size[1] * medium.frames
    pixels = patch_embedding_work(patches, backbone.image_size // backbone.grid_size[0], layer.width, trains=trains)
    products = linear_work(tokens * medium.frames, elements(weights), elements(weights, trained=True))
    attention = attention_work(tokens * medium.frames, tokens, layer.query, layers, has_gradient=trains)
    alone = pixels + products + attention
    return alone if branch is None else _sum(alone, _branch(branch, backbone, medium))


def _branch(branch: BTAdapter, backbone: Backbone, medium: MediumTokens) -> Work:
    """A BT-Adapter: every patch attends to its place in other frames, then every frame to itself."""
    layer, _ = vision_layer(backbone.hf.config.vision_config)
    weights, tokens = matrices(branch), frame_tokens(backbone) * medium.frames
    trains = any(p.requires_grad for p in branch.parameters())
    seen = medium.frames if medium.kind == "video" else 1
    products = linear_work(tokens, elements(weights), elements(weights, trained=True))
    over_time = attention_work(tokens, seen, layer.query, branch.depth, has_gradient=trains)
    return (
        products
        + over_time
        + attention_work(tokens, frame_tokens(backbone), layer.query, branch.depth, has_gradient=trains)
    )


def _aligner(model: VideoLLM, medium: MediumTokens, prompt: int) -> Work:
    """Text tower over the prompt (its attention left out: short), the rest over every patch."""
    if model.aligner is None or not model.pooler.uses_relevance:
        return Work()
    text = matrices(model.aligner.text_tower)
    known = {id(weight) for weight in text}
    visual = [weight for weight in matrices(model.aligner) if id(weight) not in known]
    t, h, w = patch_grid(model, medium)
    read = linear_work(prompt, elements(text), elements(text, trained=True))
    return _sum(read, linear_work(t * h * w, elements(visual), elements(visual, trained=True)))


def _layers(backbone: Backbone, tokens: int, keys: int | None = None, *, before: bool) -> Work:
    layer, layers = language_layer(backbone)
    weights = matrices(backbone.language_model)
    products = linear_work(tokens, elements(weights), elements(weights, trained=True), before=before)
    attention = attention_work(tokens, keys or tokens, layer.query, layers, has_gradient=products.has_gradient)
    return products + attention


def _head(backbone: Backbone, tokens: int, *, before: bool) -> Work:
    weights = matrices(backbone.hf.lm_head)
    return linear_work(tokens, elements(weights), elements(weights, trained=True), before=before)
