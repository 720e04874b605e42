"""Supervised fine-tuning: next-token loss on the assistant's words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from ppl.batches import BLANK, Batch
from ppl.functional.accuracy import answers_correct
from ppl.functional.losses import next_token_loss
from ppl.modules.aligners.base import Aligner
from ppl.modules.answer_scores import AnswerScores, Validation
from ppl.modules.backbones.base import Backbone
from ppl.modules.category_accuracy import CategoryAccuracy
from ppl.modules.execution import Execution
from ppl.modules.feature_cache import Caching
from ppl.modules.generation import Generation
from ppl.modules.lora import LoRA
from ppl.modules.parts import LearningRates
from ppl.modules.pool_site import PoolSite
from ppl.modules.poolers.base import Pooler
from ppl.modules.positions import GridPositions
from ppl.modules.saving import Saving
from ppl.modules.tuning import TuningModule


@dataclass(frozen=True)
class Regularization:
    """What makes training harder, and validation not.

    Args:
        label_smoothing: Share of each target that is spread over the whole vocabulary; 0 is none.
        neftune_alpha: Size of the noise added to the embeddings of text (NEFTune's 5 to 15); 0 is none.
    """

    label_smoothing: float = 0.0
    neftune_alpha: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no share, or no size."""
        if not 0 <= self.label_smoothing < 1 or self.neftune_alpha < 0:
            msg = f"got {self}, expected 0 <= label_smoothing < 1 and neftune_alpha >= 0; set model.regularization"
            raise ValueError(msg)


class SFTModule(TuningModule):
    """Fine-tune a video language model on conversations.

    Args:
        backbone: Vision tower, projector and language model.
        pooler: Reduces each medium's patches to fewer tokens.
        aligner: Scores patches against the prompt; needed by prompt-guided poolers.
        positions: Encoding of (frame, row, column) added to patches before pooling.
        pool_site: Pool before the projector (the papers) or after it (the released PPLLaVA code); ``pre_shuffle``: for
            InternVL, before its blocks of patches are merged.
        alignment: ``alignment.safetensors`` of an alignment run, read into the vision tower and the aligner.
        learning_rates: Peak learning rate of each part; null or 0 freezes it.
        lora: Adapters that train in place of the language model; null: it trains whole.
        weight_decay: AdamW's decay of matrices.
        warmup_ratio: Share of the steps over which learning rates rise; then they fall by a cosine to zero.
        cache: Where the frozen vision tower's features are kept; null: nowhere.
        generation: How ``predict`` answers.
        regularization: Label smoothing and noisy embeddings.
        saving: What checkpoints hold of weights that do not train.
        execution: Blocks that recompute their activations, or are compiled.
        validation: How answers are judged beside the loss.
    """

    def __init__(
        self,
        backbone: Backbone,
        pooler: Pooler,
        aligner: Aligner | None = None,
        positions: GridPositions | None = None,
        pool_site: PoolSite = "pre_projector",
        alignment: str | None = None,
        learning_rates: LearningRates = LearningRates(),  # noqa: B008  frozen
        lora: LoRA | None = None,
        weight_decay: float = 0.0,
        warmup_ratio: float = 0.03,
        cache: Caching | None = None,
        generation: Generation = Generation(),  # noqa: B008  frozen
        regularization: Regularization = Regularization(),
        saving: Saving = Saving(),  # noqa: B008  frozen
        execution: Execution = Execution(),  # noqa: B008  frozen
        validation: Validation = Validation(),  # noqa: B008  frozen
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
        self.regularization = regularization
        self.loss_means, self.accuracy = CategoryAccuracy(), CategoryAccuracy()
        self.validation = validation
        self.answer_scores = AnswerScores()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Next-token loss of one batch."""
        del batch_idx
        harder = self.regularization
        logits = self.model(batch, harder.neftune_alpha)
        loss = next_token_loss(logits, batch["labels"], harder.label_smoothing)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["ids"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and answer accuracy of one batch."""
        self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Log the loss, and what each category is worth."""
        self._log_means("val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Loss and answer accuracy of one batch; returns which rows were answered right, for callbacks."""
        return {"correct": self._evaluate(batch, "test")}

    def on_test_epoch_end(self) -> None:
        """Log the loss, and what each category is worth."""
        self._log_means("test")

    def _evaluate(self, batch: Batch, stage: str) -> Bool[Tensor, " b"]:
        logits, labels = self.model(batch), batch["labels"]
        counted = torch.tensor([name != BLANK for name in batch["ids"]], device=labels.device)
        size = int(counted.sum())
        if size:
            self.loss_means.update(["loss"] * size, next_token_loss(logits, labels).expand(size))
        correct = answers_correct(logits, labels)
        categories = [category for category, counts in zip(batch["categories"], counted, strict=True) if counts]
        self.accuracy.update(categories, correct[counted])
        if self.validation.generate:
            self.answer_scores.update(self.model, batch, counted, self.generation.with_stops(self._stop_strings()))
        return correct

    def _log_means(self, stage: str) -> None:
        """Means over all processes, each sample once: Lightning's own, of sums and of counts, round the counts down."""
        self.log(f"{stage}/loss", self.loss_means.compute()["loss"], sync_dist=True, batch_size=1)
        means = {f"accuracy/{category}": share for category, share in self.accuracy.compute().items()}
        for name, mean in (means | self.answer_scores.compute()).items():
            self.log(f"{stage}/{name}{'uncategorised' if name.endswith('/') else ''}", mean, rank_zero_only=True)
