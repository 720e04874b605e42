"""Make sure that every part that is meant to train does."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import distributed
from torch.optim import Optimizer

from ppl.batches import Batch, MediumInfo
from ppl.modules.parts import Part
from ppl.modules.pool_site import pooled_size
from ppl.modules.tuning import TuningModule
from ppl.modules.video_llm import VideoLLM

_OF_MEDIA = ("vision_tower", "bt_adapter", "projector")
_OF_RELEVANCE = ("text_tower", "aligner_projection")


class GradientCheck(Callback):
    """Stop a run in whose first step a part that has a learning rate gets no gradient.

    A part is looked at in the first step whose batches hold what reaches it: the projector needs a medium, the text
    tower one that is pooled, the newline one that is laid out with it. Parts that no batch reached are named at the
    end.
    """

    def __init__(self) -> None:
        self._silent: dict[str, bool] = {}
        """Parts without a gradient so far, and whether a batch since the last step reaches them."""
        self._stepped = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch every part that trains; other loops than tuning have no such parts."""
        parts = pl_module.parts if isinstance(pl_module, TuningModule) else []
        self._silent = {part.name: False for part in parts if part.learning_rate is not None}

    def on_train_batch_start(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Note what the batch reaches."""
        if self._silent and isinstance(pl_module, TuningModule):
            for name in set(_reached(pl_module.model, batch["media"])) & self._silent.keys():
                self._silent[name] = True

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Look for gradients.

        Raises:
            ValueError: A part that was reached, on any rank, has none on all of them.
        """
        self._stepped = True
        if not self._silent or not isinstance(pl_module, TuningModule):
            return
        parts = [part for part in pl_module.parts if part.name in self._silent]
        seen = [[int(self._silent[part.name]), int(_has_gradient(part))] for part in parts]
        flags = torch.tensor(seen, device=pl_module.device)
        if distributed.is_initialized():
            distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        dead = [part.name for part, (reached, moves) in zip(parts, flags.tolist(), strict=True) if reached > moves]
        if dead:
            rates = ", ".join(f"model.learning_rates.{name}=0" for name in dead)
            msg = (
                f"got no gradient for {', '.join(dead)} in step {trainer.global_step}, expected one in every part with "
                f"a learning rate; set {rates} to freeze what is not to train, or look for what cuts it off the loss"
            )
            raise ValueError(msg)
        silent = [part.name for part, (_, moves) in zip(parts, flags.tolist(), strict=True) if not moves]
        self._silent = dict.fromkeys(silent, False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the parts that no batch reached."""
        if self._silent and self._stepped:
            rank_zero_info(
                f"{', '.join(self._silent)} never got a gradient: no batch held what reaches a part that was to train "
                "(a medium, a pooled one, one laid out with newlines)"
            )


def _reached(model: VideoLLM, media: list[MediumInfo]) -> Iterator[str]:
    """Name the parts that the loss of a batch with such media depends on."""
    yield from ("language_model", "lora")
    if media:
        yield from _OF_MEDIA
    backbone = model.backbone
    for medium in {(m.kind, m.num_frames, m.image_size): m for m in media}.values():
        num_tokens, _ = pooled_size(backbone, model.pooler, model.pool_site, medium)
        if num_tokens * backbone.spec.merge**2 < medium.num_frames * math.prod(backbone.frame_size(medium.kind)):
            yield from _OF_RELEVANCE
        if backbone.spec.layout(medium.kind) != "none":
            yield "newline"


def _has_gradient(part: Part) -> bool:
    return any(p.grad is not None and bool(p.grad.any()) for p in part.parameters)
