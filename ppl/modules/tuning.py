"""What every loop that tunes a `VideoLLM` shares: the model, what trains of it, its optimiser and its checkpoints."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import transformers
from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer

from ppl.batches import AskedBatch, Batch, InputSpec, KeptFeatures
from ppl.modules.aligners.base import Aligner
from ppl.modules.alignment_weights import load_alignment
from ppl.modules.asking import answer_asked
from ppl.modules.backbones.base import Backbone
from ppl.modules.execution import Execution
from ppl.modules.feature_cache import Caching, FeatureCache
from ppl.modules.generation import Generation, decode_answers
from ppl.modules.lora import LoRA, add_lora, check_precision
from ppl.modules.model_name import model_name
from ppl.modules.parts import LearningRates, Part, freeze_parts, optimizer_and_schedule, split_parts
from ppl.modules.poolers.base import Pooler
from ppl.modules.positions import GridPositions
from ppl.modules.saving import Saving, base_of, check_base, leaves_out, save_base, take_over_base
from ppl.modules.sharding import clip_gradients, set_up
from ppl.modules.video_llm import PoolSite, VideoLLM
from ppl.modules.work_meter import WorkMeter


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
        cache: Where the frozen vision tower's features are kept; null: nowhere.
        generation: How ``predict`` answers.
        saving: What checkpoints hold of weights that do not train.
        execution: Blocks that recompute their activations, or are compiled.
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
        saving: Saving = Saving(),  # noqa: B008  frozen
        execution: Execution = Execution(),  # noqa: B008  frozen
    ) -> None:
        super().__init__()
        features = FeatureCache(cache) if cache is not None else None
        self.model = VideoLLM(backbone, pooler, aligner, positions, pool_site, features)
        if alignment is not None:
            load_alignment(alignment, self.model.backbone, self.model.aligner)
        if lora is not None:
            add_lora(self.model.backbone, lora)
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.generation = generation
        self.learning_rates = learning_rates
        self.execution = execution
        self.parts: list[Part] = split_parts(self.model, learning_rates)
        freeze_parts(self.parts)
        self.conversation: dict[str, Any] = {}
        self.saving = saving
        self.base_identity: dict[str, Any] | None = None
        self.has_base = True
        """Whether some source may have what does not train: not if a checkpoint gave it that names none."""
        self.started_from: str | None = None
        """Checkpoint whose weights the run began with in place of the backbone's own: see `ppl.starting_weights`."""
        self.loaded_from: str | None = None
        """Checkpoint that `ppl.checkpoints.load` built it from."""

    @property
    def input_spec(self) -> InputSpec:
        """What the data module must know to prepare inputs."""
        spec = self.model.input_spec
        return spec if self.model.cache is None else replace(spec, kept_features=self._kept_features)

    def _kept_features(self) -> KeptFeatures | None:
        """Once the weights are where and what they will be in training; their precision is part of their name."""
        cache = self.model.cache
        if cache is None or self._trainer is None:
            return None
        with self.trainer.precision_plugin.forward_context():
            return cache.kept_of(self.model.tower_identity())

    def work_meter(self) -> WorkMeter:
        """Count tokens and operations from now on."""
        return WorkMeter(self.model)

    def setup(self, stage: str) -> None:
        """Name the backbone's source while its weights are whole, as it is read again with each checkpoint."""
        del stage
        base_of(self)

    def on_fit_start(self) -> None:
        """Refuse to train adapters that the trainer's precision has rounded.

        Raises:
            ValueError: It has.
        """
        check_precision(self.model.backbone, self.trainer.precision)
        leaves_out(self)

    def on_train_start(self) -> None:
        """Settle the modes: Lightning leaves them as they were built."""
        self.train()

    def on_train_epoch_end(self) -> None:
        """Say how many media the feature cache had no room for."""
        cache = self.model.cache
        if cache is not None and cache.num_refused:
            rank_zero_warn(
                f"the feature cache ({cache.max_bytes / 2**30:g} GiB, {len(cache)} media) refused {cache.num_refused} "
                "times: those media went through the vision tower again; raise cache.memory_gib"
            )
            cache.num_refused = 0

    def answers_as(self, settings: str) -> str:
        """Name what answers: see `ppl.modules.model_name.model_name`."""
        return model_name(self, settings)

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        """Answer each row of a left-padded batch; of a benchmark's, with the time that it took by stage."""
        generation = self.generation.with_stops(self._stop_strings())
        if "rows_at_a_time" in batch:
            texts, milliseconds = answer_asked(self.model, cast(AskedBatch, batch), generation)
            return [{"prediction": text, "milliseconds": milliseconds} for text in texts]
        tokens = self.model.generate(self.model.embed(batch), batch["attention_mask"], generation)
        texts = decode_answers(self.model.backbone.tokenizer, tokens, generation.stop_strings)
        rows = zip(batch["ids"], batch["prompts"], texts, batch["answers"], batch["categories"], strict=True)
        return [
            {"id": i, "prompt": prompt, "prediction": text, "answer": answer, "category": category}
            for i, prompt, text, answer, category in rows
        ]

    def _stop_strings(self) -> tuple[str, ...]:
        """What ends an answer in the data's chat template."""
        data = getattr(self.trainer, "datamodule", None) if self._trainer is not None else None
        return getattr(data, "stop_strings", ())

    def configure_model(self) -> None:
        """Have the model compute and lie where the recipe and the trainer's strategy say."""
        if set_up(self.model, self.execution, self.trainer, self.device_mesh):
            self.parts = split_parts(self.model, self.learning_rates)  # of the shards that took the weights' place

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, as Lightning does, by a norm over all processes' shards."""
        if gradient_clip_val and gradient_clip_algorithm != "value":
            clip_gradients(self.trainer, optimizer, gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW by part, warm-up, then a cosine to zero over the whole run."""
        steps = int(self.trainer.estimated_stepping_batches)
        return optimizer_and_schedule(self.parts, self.weight_decay, self.warmup_ratio, steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put everything into the checkpoint that rebuilding the model needs beside its weights."""
        data = getattr(self.trainer, "datamodule", None) if self._trainer is not None else None
        conversation = {name: getattr(data, name) for name in ("template", "num_frames") if hasattr(data, name)}
        checkpoint["ppl"] = {
            "files": self.model.files(),
            "conversation": conversation or self.conversation,
            "transformers": transformers.__version__,
        }
        save_base(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember how conversations were rendered and videos sampled in training."""
        self.conversation = checkpoint["ppl"]["conversation"]
        self.strict_loading = not check_base(self, checkpoint)
        take_over_base(self, checkpoint)

    def train(self, mode: bool = True) -> TuningModule:
        """Switch to training, except for a frozen vision tower, which stays in evaluation mode; of several, each."""
        super().train(mode)
        tower = self.model.backbone.vision_tower
        for each in tower.values() if isinstance(tower, nn.ModuleDict) else [tower]:
            if not any(p.requires_grad for p in each.parameters()):
                each.eval()
        return self
