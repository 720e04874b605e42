"""What trains, and how: a learning rate for each part, or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import NamedTuple

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from ppl.functional.schedules import warmup_cosine
from ppl.modules.lora import lora_parameters
from ppl.modules.video_llm import VideoLLM


@dataclass(frozen=True)
class PartTraining:
    """How one part trains, where its peak learning rate alone does not say it.

    Args:
        learning_rate: The peak; 0 freezes the part.
        weight_decay: AdamW's decay of its matrices; null: the model's.
        warmup_ratio: Share of the run over which its rate rises; null: the model's.
    """

    learning_rate: float
    weight_decay: float | None = None
    warmup_ratio: float | None = None


@dataclass(frozen=True)
class LearningRates:
    """Peak learning rate of each part; null or 0 freezes it (on the command line only 0 is understood).

    In place of a number, ``{learning_rate: 1.0e-3, weight_decay: 0.1, warmup_ratio: 0.1}`` gives a part a decay and a
    warm-up of its own.

    The defaults are PPLLaVA's: language model, projector and text tower at 2e-5, the rest frozen; but a BT-Adapter,
    which its papers do not have, trains as in its code.

    Args:
        language_model: Layers, embeddings and head of the language model.
        projector: The projector.
        text_tower: The aligner's text encoder, position table included.
        aligner_projection: The aligner's layer norm and visual projection.
        vision_tower: The backbone's vision tower.
        bt_adapter: The branch beside it, where the backbone has one: it starts untrained.
        lora: Adapters in the language model, of which nothing else trains beside them (Video-LLaVA's rate).
        newline: The embedding that ends rows, frames or media, where the backbone has one.
    """

    language_model: float | PartTraining | None = 2e-5
    projector: float | PartTraining | None = 2e-5
    text_tower: float | PartTraining | None = 2e-5
    aligner_projection: float | PartTraining | None = None
    vision_tower: float | PartTraining | None = None
    bt_adapter: float | PartTraining | None = 2e-5
    lora: float | PartTraining | None = 2e-4
    newline: float | PartTraining | None = 2e-5


class Part(NamedTuple):
    """One row of the start-up table."""

    name: str
    parameters: list[nn.Parameter]
    learning_rate: float | None
    """At its peak; None: frozen."""
    weight_decay: float | None = None
    """None: the run's."""
    warmup_ratio: float | None = None
    """None: the run's."""
    shapes: tuple[torch.Size, ...] | None = None
    """Of the parameters when whole, of which FSDP1 leaves pieces; None: they are whole."""

    def whole_shapes(self) -> Sequence[torch.Size]:
        """Shape of each parameter, whatever share of it this process has."""
        return self.shapes if self.shapes is not None else [p.shape for p in self.parameters]


def split_parts(model: VideoLLM, rates: LearningRates) -> list[Part]:
    """Name each parameter's part once and attach its rate.

    Parts that the model lacks are left out; an aligner that the pooler does not read is frozen whatever its rates, and
    so is a language model with adapters.
    """
    groups = dict(model.backbone.parts())
    newline = getattr(model.backbone.hf.model, "image_newline", None)
    if newline is not None:
        groups["projector"] = [p for p in groups["projector"] if p is not newline]
        groups["newline"] = [newline]
    frozen: set[str] = set()
    if model.aligner is not None:
        aligner = dict(model.aligner.parts())
        frozen |= set() if model.pooler.uses_relevance else set(aligner)
        groups |= aligner
    adapters = lora_parameters(model.backbone.language_model)
    if adapters:
        frozen.add("language_model")
        apart = set(adapters)
        groups["language_model"] = [p for p in groups["language_model"] if p not in apart]
        groups["lora"] = adapters
    names = [f.name for f in fields(rates) if f.name in groups]
    return [_part(name, groups[name], None if name in frozen else getattr(rates, name)) for name in names]


def freeze_parts(parts: list[Part]) -> None:
    """Let exactly the parts with a learning rate train.

    Raises:
        ValueError: One of them is quantised, and so has no gradient.
    """
    for part in parts:
        if part.learning_rate is not None and not all(p.is_floating_point() for p in part.parameters):
            msg = (
                f"got quantization with learning_rates.{part.name}={part.learning_rate:g}, expected adapters or 0, as "
                "quantised weights cannot train: add -c recipes/overlays/lora.yaml, or set "
                f"model.learning_rates.{part.name}=0"
            )
            raise ValueError(msg)
    for part in parts:
        for parameter in part.parameters:
            parameter.requires_grad_(part.learning_rate is not None)


def build_optimizer(parts: list[Part], weight_decay: float) -> AdamW:
    """AdamW with one group per part and decay kind; norms, biases and other vectors do not decay.

    Raises:
        ValueError: Nothing trains.
    """
    groups = list(_groups(parts, weight_decay))
    if not groups:
        msg = f"got no learning rate for any of {[part.name for part in parts]}, expected one: set model.learning_rates"
        raise ValueError(msg)
    return AdamW(groups)


def optimizer_and_schedule(
    parts: list[Part], weight_decay: float, warmup_ratio: float, num_steps: int
) -> OptimizerLRSchedulerConfig:
    """`build_optimizer`, with rates that rise linearly and then fall by a cosine to zero, step by step.

    Args:
        parts: Of the model.
        weight_decay: Of parts that have none of their own.
        warmup_ratio: Share of the steps over which rates rise, of parts that have none of their own.
        num_steps: Of the whole run.
    """
    optimizer = build_optimizer(parts, weight_decay)
    ratios = {part.name: warmup_ratio if part.warmup_ratio is None else part.warmup_ratio for part in parts}
    factors = [
        partial(
            warmup_cosine,
            num_warmup_steps=round(ratios[group["name"].partition("/")[0]] * num_steps),
            num_steps=num_steps,
        )
        for group in optimizer.param_groups
    ]
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factors), "interval": "step"}}


def _part(name: str, parameters: list[nn.Parameter], rate: float | PartTraining | None) -> Part:
    training = rate if isinstance(rate, PartTraining) else PartTraining(rate or 0.0)
    shapes = tuple(p.shape for p in parameters)
    return Part(name, parameters, training.learning_rate or None, training.weight_decay, training.warmup_ratio, shapes)


def _groups(parts: list[Part], weight_decay: float) -> Iterator[dict]:
    for part in parts:
        trained = [
            (p, len(shape)) for p, shape in zip(part.parameters, part.whole_shapes(), strict=True) if p.requires_grad
        ]
        for decays in (True, False):
            chosen = [p for p, ndim in trained if (ndim > 1) == decays]
            if chosen:
                name = f"{part.name}/{'decay' if decays else 'no_decay'}"
                decay = (weight_decay if part.weight_decay is None else part.weight_decay) if decays else 0.0
                yield {"params": chosen, "lr": part.learning_rate, "weight_decay": decay, "name": name}
