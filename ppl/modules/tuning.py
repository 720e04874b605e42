"""What every loop that tunes a `VideoLLM` shares: the model, what trains of it, its optimiser and its checkpoints."""

from __future__ import annotations

from typing import Any

import transformers
from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from ppl.batches import Batch, InputSpec
from ppl.modules.aligners.base import Aligner
from ppl.modules.alignment_weights import load_alignment
from ppl.modules.backbones.base import Backbone
from ppl.modules.feature_cache import FeatureCache
from ppl.modules.generation import Generation, decode_answers
from ppl.modules.lora import LoRA, add_lora, check_precision
from ppl.modules.parts import LearningRates, Part, freeze_parts, optimizer_and_schedule, split_parts
from ppl.modules.poolers.base import Pooler
from ppl.modules.positions import GridPositions
from ppl.modules.video_llm import PoolSite, VideoLLM


class TuningModule(LightningModule):
    """The part of a training loop that does not depend on its loss; `ppl.checkpoints` rebuilds any subclass.

    Subclasses list these arguments in their own ``__init__``, hand them on, and call ``save_hyperparameters()``.

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
        super().__init__()
        cache = FeatureCache(cache_gib, folder=cache_folder) if cache_gib > 0 or cache_folder is not None else None
        self.model = VideoLLM(backbone, pooler, aligner, positions, pool_site, cache)
        if alignment is not None:
            load_alignment(alignment, self.model.backbone, self.model.aligner)
        if lora is not None:
            add_lora(self.model.backbone, lora)
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.generation = generation
        self.parts: list[Part] = split_parts(self.model, learning_rates)
        freeze_parts(self.parts)
        self.conversation: dict[str, Any] = {}

    @property
    def input_spec(self) -> InputSpec:
        """What the data module must know to prepare inputs."""
        return self.model.input_spec

    def on_fit_start(self) -> None:
        """Refuse to train adapters that the trainer's precision has rounded.

        Raises:
            ValueError: It has.
        """
        check_precision(self.model.backbone, self.trainer.precision)

    def on_train_start(self) -> None:
        """Settle the modes: Lightning leaves them as they were built."""
        self.train()

    def on_train_epoch_end(self) -> None:
        """Say how many media the feature cache had no room for."""
        cache = self.model.cache
        if cache is not None and cache.num_refused:
            rank_zero_warn(
                f"the feature cache ({cache.max_bytes / 2**30:g} GiB, {len(cache)} media) refused {cache.num_refused} "
                "times: those media went through the vision tower again; raise cache_gib"
            )
            cache.num_refused = 0

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, str]]:
        """Answer each row of a left-padded batch."""
        data = getattr(self.trainer, "datamodule", None) if self._trainer is not None else None
        generation = self.generation.with_stops(getattr(data, "stop_strings", ()))
        tokens = self.model.generate(self.model.embed(batch), batch["attention_mask"], generation)
        texts = decode_answers(self.model.backbone.tokenizer, tokens, generation.stop_strings)
        rows = zip(batch["ids"], batch["prompts"], texts, batch["answers"], batch["categories"], strict=True)
        return [
            {"id": i, "prompt": prompt, "prediction": text, "answer": answer, "category": category}
            for i, prompt, text, answer, category in rows
        ]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW by part, warm-up, then a cosine to zero over the whole run."""
        steps = int(self.trainer.estimated_stepping_batches)
        return optimizer_and_schedule(self.parts, self.weight_decay, round(self.warmup_ratio * steps), steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put everything into the checkpoint that rebuilding the model needs beside its weights."""
        data = getattr(self.trainer, "datamodule", None) if self._trainer is not None else None
        conversation = {name: getattr(data, name) for name in ("template", "num_frames") if hasattr(data, name)}
        checkpoint["ppl"] = {
            "files": self.model.files(),
            "conversation": conversation or self.conversation,
            "transformers": transformers.__version__,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember how conversations were rendered and videos sampled in training."""
        self.conversation = checkpoint["ppl"]["conversation"]

    def train(self, mode: bool = True) -> TuningModule:
        """Switch to training, except for a frozen vision tower, which stays in evaluation mode; of several, each."""
        super().train(mode)
        tower = self.model.backbone.vision_tower
        for each in tower.values() if isinstance(tower, nn.ModuleDict) else [tower]:
            if not any(p.requires_grad for p in each.parameters()):
                each.eval()
        return self
