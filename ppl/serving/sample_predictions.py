"""Watch a model learn: what it answers to a few questions, and where it looks, every so many steps.

Axes: H W pixel rows, columns.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.seed import isolate_rng
from PIL import Image
from torch.utils.data import DataLoader

from ppl.batches import IGNORE_INDEX, Batch
from ppl.functional.relevance import relevance_distribution
from ppl.modules.evaluation_mode import evaluating
from ppl.modules.tuning import TuningModule
from ppl.modules.video_llm import VideoLLM
from ppl.serving.overlays import heatmap_strip


class SamplePredictions(Callback):
    """Answer the same validation records every ``every_n_steps`` steps, as ``predict`` would.

    Answers are appended to ``samples/answers.jsonl`` in the run's folder; what each record's question finds in its
    first medium is drawn to ``samples/STEP_NUMBER.png``, where the model has an aligner. TensorBoard shows both.

    Training is left as it was: chance, modes and the feature cache. All processes answer, so that sharded weights can
    be gathered, and the first writes.

    Args:
        every_n_steps: Optimiser steps from one time to the next.
        num_samples: Records, spread evenly over the validation set.

    Raises:
        ValueError: A number is below 1.
    """

    def __init__(self, every_n_steps: int = 500, num_samples: int = 4) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("num_samples", num_samples)):
            if value < 1:
                msg = f"got {name}={value}, expected at least 1; to have no samples, leave the callback out"
                raise ValueError(msg)
        self.every_n_steps = every_n_steps
        self.num_samples = num_samples
        self._prompts: list[Batch] | None = None
        self._last = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Answer, if it is time."""
        step = trainer.global_step
        if step == self._last or step % self.every_n_steps:  # with accumulated batches, a step has several
            return
        self._last = step
        if not isinstance(pl_module, TuningModule):
            msg = f"got {type(pl_module).__name__}, expected a module that answers; leave SamplePredictions out"
            raise ValueError(msg)
        with isolate_rng(), torch.no_grad(), evaluating(pl_module), trainer.precision_plugin.forward_context():
            torch.manual_seed(step)  # the same in all processes
            if self._prompts is None:
                self._prompts = _prompts(trainer, self.num_samples)
            for number, prompt in enumerate(self._prompts):
                asked: Any = trainer.strategy.batch_to_device(prompt)
                [row] = pl_module.predict_step(asked, 0)
                picture = relevance_picture(pl_module.model, asked)
                if trainer.is_global_zero:
                    _write(trainer, number, row, picture)


def relevance_picture(model: VideoLLM, batch: Batch) -> Image.Image | None:
    """The frames of the first medium under what the row's question finds in them, as the vision tower got them.

    None without a medium, without an aligner, or where a frame is no grid of patches.
    """
    if not batch["media"] or model.aligner is None or batch["prompt_ids"] is None:
        return None
    medium = batch["media"][0]
    frames = batch["pixel_values"][: medium.num_frames]
    [grid] = model.encode(frames, [medium])
    if tuple(grid.shape[1:3]) != model.backbone.grid_size:
        return None
    question = model.aligner.embed_prompts(batch["prompt_ids"])[0]
    relevance = relevance_distribution(model.relevance(grid, question)).float()
    return heatmap_strip(frames.cpu(), relevance.cpu(), batch["prompts"][0])


def _prompts(trainer: Trainer, number: int) -> list[Batch]:
    """A batch of one row for each record, up to its last answer; media have no keys, so nothing of them is cached."""
    data: Any = getattr(trainer, "datamodule", None)
    loader = trainer.val_dataloaders or (getattr(data, "val_dataloader", None) or (lambda: None))()
    if not isinstance(loader, DataLoader):
        msg = (
            f"got {type(loader).__name__} to validate on, expected one loader of conversations to take samples from: "
            "set data.val_files, or leave SamplePredictions out"
        )
        raise ValueError(msg)
    dataset: Any = loader.dataset
    number = min(number, len(dataset))
    batches = [loader.collate_fn([dataset[i * len(dataset) // number]]) for i in range(number)]
    return [_prompt(batch) for batch in batches]


def _prompt(batch: Any) -> Batch:  # noqa: ANN401  whatever the loader makes
    if not isinstance(batch, dict) or "labels" not in batch:
        msg = "got validation batches without labels, expected conversations; leave SamplePredictions out"
        raise ValueError(msg)
    [answered] = (batch["labels"] != IGNORE_INDEX).long()
    start = int((answered[1:] > answered[:-1]).nonzero()[-1]) + 1  # of the last stretch that is learnt
    cut = {name: batch[name][:, :start] for name in ("input_ids", "attention_mask", "labels")}
    prompt: Any = {**batch, **cut, "media": [medium._replace(key="") for medium in batch["media"]]}
    return prompt


def _write(trainer: Trainer, number: int, row: dict[str, str], picture: Image.Image | None) -> None:
    folder = Path(trainer.default_root_dir) / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    step = trainer.global_step
    with (folder / "answers.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, **row}, ensure_ascii=False) + "\n")
    if picture is not None:
        picture.save(folder / f"{step:07d}_{number}.png")
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            text = f"{row['prompt']}\n\n**{row['prediction']}**\n\nexpected: {row['answer']}"
            logger.experiment.add_text(f"samples/{number}", text, step)
            if picture is not None:
                logger.experiment.add_image(f"samples/{number}", np.asarray(picture), step, dataformats="HWC")
