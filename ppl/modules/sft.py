"""Supervised fine-tuning: next-token loss on the assistant's words."""

from __future__ import annotations

from jaxtyping import Bool
from torch import Tensor

from ppl.batches import Batch
from ppl.functional.accuracy import answers_correct
from ppl.functional.losses import next_token_loss
from ppl.modules.aligners.base import Aligner
from ppl.modules.backbones.base import Backbone
from ppl.modules.category_accuracy import CategoryAccuracy
from ppl.modules.generation import Generation
from ppl.modules.lora import LoRA
from ppl.modules.parts import LearningRates
from ppl.modules.pool_site import PoolSite
from ppl.modules.poolers.base import Pooler
from ppl.modules.positions import GridPositions
from ppl.modules.tuning import TuningModule


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
        cache_gib: Host memory for the frozen tower's features, in GiB; 0 keeps none.
        cache_folder: Folder for them, shared with other runs; null: only memory.
        generation: How ``predict`` answers.
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
        cache_gib: float = 0.0,
        cache_folder: str | None = None,
        generation: Generation = Generation(),  # noqa: B008  frozen
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
            cache_gib,
            cache_folder,
            generation,
        )
        self.save_hyperparameters()
        self.accuracy = CategoryAccuracy()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Next-token loss of one batch."""
        del batch_idx
        loss = next_token_loss(self.model(batch), batch["labels"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["ids"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and answer accuracy of one batch."""
        self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Log the accuracy of each category."""
        self._log_accuracy("val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Loss and answer accuracy of one batch; returns which rows were answered right, for callbacks."""
        return {"correct": self._evaluate(batch, "test")}

    def on_test_epoch_end(self) -> None:
        """Log the accuracy of each category."""
        self._log_accuracy("test")

    def _evaluate(self, batch: Batch, stage: str) -> Bool[Tensor, " b"]:
        logits = self.model(batch)
        size = len(batch["ids"])
        self.log(f"{stage}/loss", next_token_loss(logits, batch["labels"]), batch_size=size, sync_dist=True)
        correct = answers_correct(logits, batch["labels"])
        self.accuracy.update(batch["categories"], correct)
        return correct

    def _log_accuracy(self, stage: str) -> None:
        for category, share in self.accuracy.compute().items():
            self.log(f"{stage}/accuracy/{category or 'uncategorised'}", share, rank_zero_only=True)
