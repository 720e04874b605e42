"""Preference tuning: better answers become more probable than worse ones, held to the model it began with.

Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290) and its kin, for video as LLaVA-Hound (Zhang et
al. 2024, arXiv:2404.01258) and PPLLaVA (v1 §3.3) have it.

Axes: b pairs | r = 2 b answers, the better ones first.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from ppl.batches import PreferenceBatch
from ppl.modules.aligners.base import Aligner
from ppl.modules.backbones.base import Backbone
from ppl.modules.execution import Execution
from ppl.modules.feature_cache import Caching
from ppl.modules.generation import Generation
from ppl.modules.lora import LoRA
from ppl.modules.pair_scores import PairScores, gather_around_scores, pair_scores
from ppl.modules.parts import LearningRates
from ppl.modules.pool_site import PoolSite
from ppl.modules.poolers.base import Pooler
from ppl.modules.positions import GridPositions
from ppl.modules.preference_losses import PreferenceLoss
from ppl.modules.reference import Reference
from ppl.modules.saving import Saving
from ppl.modules.tuning import TuningModule

LANGUAGE_MODEL_ALONE = LearningRates(
    language_model=5e-6, projector=None, text_tower=None, bt_adapter=None, lora=5e-6, newline=None
)
"""PPLLaVA's: "all parameters except the LLM were frozen" (v1 §3.3), at the released config's rate."""


class DPOModule(TuningModule):
    """Tune a video language model on pairs of a better and a worse answer.

    Media are encoded and pooled once a pair. Begin with a fine-tuned model: ``ppl fit --init_from=sft.ckpt``.

    Args:
        backbone: Vision tower, projector and language model.
        pooler: Reduces each medium's patches to fewer tokens.
        loss: What a pair costs.
        reference: The model that the run begins with, for losses that refer to it; null for those that do not.
        sft_weight: Of a further term, the mean next-token loss of the better answers (LLaVA-NeXT's gamma).
        aligner: Scores patches against the prompt; needed by prompt-guided poolers.
        positions: Encoding of (frame, row, column) added to patches before pooling.
        pool_site: Pool before the projector (the papers) or after it (the released PPLLaVA code); ``pre_shuffle``: for
            InternVL, before its blocks of patches are merged.
        alignment: ``alignment.safetensors`` of an alignment run, read into the vision tower and the aligner.
        learning_rates: Peak learning rate of each part; null or 0 freezes it. The default is PPLLaVA's: the language
            model alone.
        lora: Adapters that train in place of the language model; null: it trains whole.
        weight_decay: AdamW's decay of matrices.
        warmup_ratio: Share of the steps over which learning rates rise; then they fall by a cosine to zero.
        cache: Where the frozen vision tower's features are kept; null: nowhere.
        generation: How ``predict`` answers.
        saving: What checkpoints hold of weights that do not train.
        execution: Blocks that recompute their activations, or are compiled.

    Raises:
        ValueError: The loss lacks a reference, or uses none of the one given.
    """

    def __init__(
        self,
        backbone: Backbone,
        pooler: Pooler,
        loss: PreferenceLoss,
        reference: Reference | None = None,
        sft_weight: float = 0.0,
        aligner: Aligner | None = None,
        positions: GridPositions | None = None,
        pool_site: PoolSite = "pre_projector",
        alignment: str | None = None,
        learning_rates: LearningRates = LANGUAGE_MODEL_ALONE,
        lora: LoRA | None = None,
        weight_decay: float = 0.0,
        warmup_ratio: float = 0.1,
        cache: Caching | None = None,
        generation: Generation = Generation(),  # noqa: B008  frozen
        saving: Saving = Saving(),  # noqa: B008  frozen
        execution: Execution = Execution(),  # noqa: B008  frozen
    ) -> None:
        super().__init__(
            backbone,
            pooler,
            aligner,
            positions,
            pool_site,
            alignment,
            learning_rates,
            lora,
            weight_decay,
            warmup_ratio,
            cache,
            generation,
            saving,
            execution,
        )
        self.save_hyperparameters()
        _check_reference(loss, reference)
        self.loss, self.reference = loss, reference
        self.sft_weight = sft_weight

    def setup(self, stage: str) -> None:
        """Prepare the reference, while the weights are whole and those the run begins with."""
        super().setup(stage)
        if self.reference is not None and stage in ("fit", "validate"):
            self.reference.prepare(self)

    def configure_model(self) -> None:
        """As any tuning, with shards gathered around what is not ``forward`` too."""
        super().configure_model()
        gather_around_scores(self.model)

    def training_step(self, batch: PreferenceBatch, batch_idx: int) -> Tensor:
        """Loss of one batch of pairs."""
        del batch_idx
        return self._step(batch, "train")

    def validation_step(self, batch: PreferenceBatch, batch_idx: int) -> None:
        """Loss, rewards and log-probabilities of one batch of pairs."""
        del batch_idx
        self._step(batch, "val")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the reference beside what any tuning keeps."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["ppl"]["reference"] = None if self.reference is None else self.reference.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with another reference than the checkpoint's.

        Raises:
            ValueError: It is another.
        """
        super().on_load_checkpoint(checkpoint)
        kept = checkpoint["ppl"].get("reference")
        own = None if self.reference is None else self.reference.identity
        if kept is not None and own is not None and kept != own:
            msg = (
                f"got a reference of digest {own[:12]}, expected the checkpoint's, {kept[:12]}: go on with the same "
                "--init_from, backbone, pooling and precision, or begin anew with --init_from=CHECKPOINT"
            )
            raise ValueError(msg)

    def _step(self, batch: PreferenceBatch, stage: str) -> Tensor:
        scores = pair_scores(self.model, batch)
        chosen, rejected = self._compared(batch, scores).chunk(2)
        loss = self.loss(chosen, rejected).mean()
        logprobs, counts = scores.logprobs.total.chunk(2), scores.logprobs.num_tokens.chunk(2)
        if self.sft_weight:
            loss = loss - self.sft_weight * logprobs[0].sum() / counts[0].sum()
        margins = self.loss.scale * (chosen - rejected).detach()
        measured = {
            "rewards/chosen": self.loss.scale * chosen.detach().mean(),
            "rewards/rejected": self.loss.scale * rejected.detach().mean(),
            "rewards/margins": margins.mean(),
            "rewards/accuracies": (margins > 0).float().mean(),
            "logps/chosen": logprobs[0].detach().mean(),
            "logps/rejected": logprobs[1].detach().mean(),
        }
        options = {"batch_size": len(batch["ids"]), "sync_dist": stage == "val"}
        self.log(f"{stage}/loss", loss, prog_bar=stage == "train", **options)
        self.log_dict({f"{stage}/{name}": value for name, value in measured.items()}, **options)
        return loss

    def _compared(self, batch: PreferenceBatch, scores: PairScores) -> Float[Tensor, " r"]:
        """What the loss compares: log-probabilities or log-ratios, summed or by token."""
        found = scores.logprobs
        total = found.total
        if self.reference is not None:
            total = total - self.reference.totals(self, batch, scores.visual)
        return total / found.num_tokens if self.loss.per_token else total


def _check_reference(loss: PreferenceLoss, reference: Reference | None) -> None:
    if loss.uses_reference != (reference is not None):
        got, wanted = ("no", "one") if reference is None else ("a", "none")
        msg = f"got {got} reference with {type(loss).__name__}, expected {wanted}: set model.reference"
        raise ValueError(msg)
