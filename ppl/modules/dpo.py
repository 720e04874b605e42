"""Preference tuning: better answers become more probable than worse ones, held to the model it began with.

Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290) and its kin, for video as LLaVA-Hound (Zhang et
al. 2024, arXiv:2404.01258) and PPLLaVA (v1 §3.3) have it.

Axes: b pairs | k pairs that count | r = 2 b answers, the better ones first.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from ppl.batches import BLANK, PreferenceBatch
from ppl.modules.aligners.base import Aligner
from ppl.modules.backbones.base import Backbone
from ppl.modules.category_accuracy import CategoryAccuracy
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

_Measured = dict[str, Float[Tensor, " k"]]
"""By name, of each pair that counts."""
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
        self.loss, self.reference, self.sft_weight = loss, reference, sft_weight
        self.means = CategoryAccuracy()

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
        loss, measured = self._measure(batch, slice(None))
        size = len(batch["ids"])
        self.log("train/loss", loss, prog_bar=True, batch_size=size)
        self.log_dict({f"train/{name}": values.mean() for name, values in measured.items()}, batch_size=size)
        return loss

    def validation_step(self, batch: PreferenceBatch, batch_idx: int) -> None:
        """Loss, rewards and log-probabilities of one batch of pairs."""
        del batch_idx
        counted = [place for place, name in enumerate(batch["ids"]) if name != BLANK]
        loss, measured = self._measure(batch, counted)
        if counted:
            for name, values in {"loss": loss.expand(len(counted)), **measured}.items():
                self.means.update([name] * len(counted), values)

    def on_validation_epoch_end(self) -> None:
        """Log the means over all processes, each pair once."""
        means = {f"val/{name}": mean for name, mean in self.means.compute().items() if name != "mean"}
        self.log_dict(means, sync_dist=True, batch_size=1)

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

    def _measure(self, batch: PreferenceBatch, counted: slice | list[int]) -> tuple[Float[Tensor, ""], _Measured]:
        """The loss of a batch, and what is to be known of each of its pairs that counts."""
        scores = pair_scores(self.model, batch)
        chosen, rejected = (each[counted] for each in self._compared(batch, scores).chunk(2))
        loss = self.loss(chosen, rejected).mean()
        better, worse = (each[counted] for each in scores.logprobs.total.chunk(2))
        if self.sft_weight:
            loss = loss - self.sft_weight * better.sum() / scores.logprobs.num_tokens.chunk(2)[0][counted].sum()
        rewards = self.loss.scale * chosen.detach(), self.loss.scale * rejected.detach()
        margins = self.loss.scale * (chosen - rejected).detach()
        return loss, {
            "rewards/chosen": rewards[0],
            "rewards/rejected": rewards[1],
            "rewards/margins": margins,
            "rewards/accuracies": (margins > 0).float(),
            "logps/chosen": better.detach(),
            "logps/rejected": worse.detach(),
        }

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
