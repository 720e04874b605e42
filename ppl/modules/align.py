"""Alignment: teach a vision tower's patches and a text tower to speak of the same things.

Axes: n frames | m texts | h w patch rows, columns | p patches | e joint embedding.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from ppl.batches import ContrastiveBatch, InputSpec
from ppl.functional.contrastive import (
    contrastive_loss,
    match_equal_texts,
    mean_text_similarity,
    patch_text_similarity,
)
from ppl.functional.relevance import prompt_relevance, relevance_distribution
from ppl.modules.aligned_tower import check_single_frames, split_tower
from ppl.modules.aligner_patches import check_aligner
from ppl.modules.aligners.base import Aligner
from ppl.modules.alignment_weights import save_alignment
from ppl.modules.backbones.base import Backbone
from ppl.modules.category_accuracy import CategoryAccuracy
from ppl.modules.gathering import gather_rows, gather_with_gradients, is_distributed
from ppl.modules.parts import Part, freeze_parts, optimizer_and_schedule
from ppl.modules.poolers.none import NoPooler
from ppl.modules.retrieval_recall import RetrievalRecall
from ppl.modules.video_llm import VideoLLM

Similarity = Literal["patches", "mean"]
_HIGHEST_LOGIT_SCALE = math.log(100)


class AlignModule(LightningModule):
    """Contrastive training of images or frames against texts.

    With ``patches``, a frame and a text are as similar as the text and the frame's best patches (a soft maximum over
    patches, after FILIP); with ``mean``, as the text and the frame's mean patch, which is CLIP's own pre-training. A
    batch may hold several right texts per frame (UniCL), and texts of the same tokens are right for the same frames.
    Both train what prompt-guided pooling reads, the similarity of a patch and a prompt. No boxes are used.

    In training on several devices every frame is compared with the texts of all of them, so the batch that counts is
    that of all devices; the loss and its gradients are those of one device with all frames. Frames and texts of
    different devices match only through equal texts. ``accumulate_grad_batches`` makes no larger batch of this kind.

    The language model is neither run nor trained: it is taken out of the backbone, so that it is neither moved to the
    device nor saved with checkpoints. What the vision tower has behind the layer that is read does not train either.

    Of a backbone with a tower for images and one for videos, that of the data's kind trains; on several devices the
    other one's idle weights then need ``trainer.strategy: ddp_find_unused_parameters_true``.

    Args:
        backbone: Its vision tower is aligned; the projector is neither run nor trained.
        aligner: Text tower, visual projection and logit scale; all of it trains.
        vision_learning_rate: Peak learning rate of the vision tower; null or 0 freezes it, as for InternViT.
        text_learning_rate: Peak learning rate of the aligner, logit scale included; 0 freezes it.
        projection_learning_rate: That of the aligner's layer norm and visual projection, which may start at random;
            null: the text learning rate; 0 freezes them.
        weight_decay: AdamW's decay of matrices.
        warmup_ratio: Share of the steps over which learning rates rise; then they fall by a cosine to zero.
        similarity: How a frame's patches are compared with a text: ``patches`` or ``mean``.
        sharpness: Inverse temperature of the soft maximum over ``patches``.

    Raises:
        ValueError: The aligner has a vision tower of its own, or cannot read the backbone's patches.
    """

    def __init__(
        self,
        backbone: Backbone,
        aligner: Aligner,
        vision_learning_rate: float | None = None,
        text_learning_rate: float = 1e-5,
        projection_learning_rate: float | None = None,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.1,
        similarity: Similarity = "patches",
        sharpness: float = 15.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        _check_trains(backbone, aligner)
        backbone.hf.model.language_model = nn.Identity()
        backbone.hf.lm_head = nn.Identity()
        self.backbone = backbone
        self.aligner = aligner
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.similarity: Similarity = similarity
        self.sharpness = sharpness
        if projection_learning_rate is None:
            projection_learning_rate = text_learning_rate
        rates = {"vision_tower": vision_learning_rate, "aligner_projection": projection_learning_rate}
        rates |= {"text_tower": text_learning_rate, "logit_scale": text_learning_rate}
        owned = dict([*backbone.parts(), *aligner.parts()])
        if vision_learning_rate:
            owned.pop("bt_adapter", None)  # it is among the tower's, and trains with it
            owned |= split_tower(backbone)
        owned["logit_scale"] = [aligner.logit_scale]
        self.parts = [Part(name, members, rates.get(name) or None) for name, members in owned.items() if members]
        freeze_parts(self.parts)
        self.means, self.pointing = CategoryAccuracy(), CategoryAccuracy()
        self.recall = RetrievalRecall(self._compare, aligner.text_tower.padding_id)

    @property
    def input_spec(self) -> InputSpec:
        """What the data module must know to prepare inputs; media count as many tokens as their patches."""
        return VideoLLM(self.backbone, NoPooler(), self.aligner).input_spec

    def on_train_start(self) -> None:
        """Settle the modes: Lightning leaves them as they were built."""
        self.train()

    def training_step(self, batch: ContrastiveBatch, batch_idx: int) -> Tensor:
        """Symmetric multi-positive contrastive loss of the batches of all devices."""
        loss = self._loss(*self._embed(batch), batch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["positives"]))
        return loss

    def on_train_batch_end(self, outputs: object, batch: ContrastiveBatch, batch_idx: int) -> None:
        """Keep the logit scale at 100 or below, as CLIP does (Radford et al., 2021, section 2.5)."""
        with torch.no_grad():
            self.aligner.logit_scale.clamp_(max=_HIGHEST_LOGIT_SCALE)

    def validation_step(self, batch: ContrastiveBatch, batch_idx: int) -> None:
        """Loss of each device's own batches; where regions are known, whether the most relevant patch lies in one.

        Where they are not, images and texts are kept for retrieval.
        """
        patches, texts = self._embed(batch)
        if not batch["positives"].any():  # it fills up a process's share, and counts nowhere
            return
        measured = {"loss": self._loss(patches, texts, batch, joined=False)}
        if batch["regions"] is None:
            self.recall.update(patches, texts, batch["prompt_ids"], batch["positives"])
        else:
            hits, measured["attention_mass"], measured["uniform_mass"] = self._point(patches, texts, batch["regions"])
            self.pointing.update(batch["categories"], hits)
        size = len(batch["positives"])
        for name, value in measured.items():
            self.means.update([name] * size, value.expand(size))

    def on_validation_epoch_end(self) -> None:
        """Log means, the pointing accuracy of each kind of text, and the recall of retrieval, over all processes."""
        means = {name: mean for name, mean in self.means.compute().items() if name != "mean"}
        pointing = {f"pointing/{category}": share for category, share in self.pointing.compute().items()}
        for name, value in (means | pointing | self.recall.compute(self.device)).items():
            self.log(f"val/{name}", value, sync_dist=True)  # the same on each rank already

    def on_train_end(self) -> None:
        """Write ``alignment.safetensors`` to the run's folder."""
        if self.trainer.is_global_zero:
            save_alignment(Path(self.trainer.default_root_dir) / "alignment.safetensors", self.backbone, self.aligner)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW by part, warm-up, then a cosine to zero over the whole run."""
        steps = int(self.trainer.estimated_stepping_batches)
        return optimizer_and_schedule(self.parts, self.weight_decay, self.warmup_ratio, steps)

    def train(self, mode: bool = True) -> AlignModule:
        """Switch to training, except for a frozen vision tower, which stays in evaluation mode."""
        super().train(mode)
        if not any(p.requires_grad for p in self.backbone.vision_tower.parameters()):
            self.backbone.vision_tower.eval()
        return self

    def _embed(self, batch: ContrastiveBatch) -> tuple[Float[Tensor, "n p e"], Float[Tensor, "m e"]]:
        check_single_frames(self.backbone, batch["kind"])
        patches = self.aligner.embed_patches(self.backbone.encode_frames(batch["pixel_values"], batch["kind"]))
        return patches.flatten(1, 2), self.aligner.embed_prompts(batch["prompt_ids"])

    def _compare(self, patches: Float[Tensor, "n p e"], texts: Float[Tensor, "m e"]) -> Float[Tensor, "n m"]:
        if self.similarity == "mean":
            return mean_text_similarity(patches, texts)
        return patch_text_similarity(patches, texts, self.sharpness)

    def _loss(
        self,
        patches: Float[Tensor, "n p e"],
        texts: Float[Tensor, "m e"],
        batch: ContrastiveBatch,
        *,
        joined: bool = True,
    ) -> Float[Tensor, ""]:
        """Loss of the batches of all ranks, which must be of one size, or of one's own.

        Texts travel, then rows of scores: neither grows with the number of patches.
        """
        positives, ids = batch["positives"], batch["prompt_ids"]
        if not (joined and is_distributed()):
            similarity = self._compare(patches, texts)
        else:
            similarity = gather_with_gradients(self._compare(patches, gather_with_gradients(texts)))
            tower = self.aligner.text_tower
            ids = gather_rows(F.pad(ids, (0, tower.context_length - ids.shape[1]), value=tower.padding_id))
            blocks = gather_rows(positives.int()[None])
            positives = torch.block_diag(*blocks).bool()
        return contrastive_loss(similarity, match_equal_texts(positives, ids), self.aligner.logit_scale.exp())

    def _point(
        self, patches: Float[Tensor, "n p e"], texts: Float[Tensor, "n e"], regions: Bool[Tensor, "n h w"]
    ) -> tuple[Bool[Tensor, " n"], Float[Tensor, ""], Float[Tensor, ""]]:
        grids = patches.unflatten(1, (1, *regions.shape[1:]))
        relevance = prompt_relevance(grids, texts, self.aligner.logit_scale.exp())
        attention = relevance_distribution(relevance).flatten(1)
        inside = regions.flatten(1)
        hits = inside.gather(1, attention.argmax(dim=1, keepdim=True)).squeeze(1)
        mass = torch.where(inside, attention, 0).sum(dim=1).mean()
        return hits, mass, inside.float().mean()


def _check_trains(backbone: Backbone, aligner: Aligner) -> None:
    """Refuse an aligner that scores other patches than the backbone's."""
    if aligner.own_width:
        msg = (
            f"got {type(aligner).__name__} with a vision tower of its own, which is frozen, expected an aligner of the "
            "backbone's patches, to train: set own_tower: false, or take LearnedAligner"
        )
        raise ValueError(msg)
    check_aligner(backbone, aligner)
