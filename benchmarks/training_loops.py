"""A process of `benchmarks.training`: one model in one loop, that takes each step when it is told to."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from lightning import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from torch.utils.data import DataLoader

from benchmarks.loading import memory
from benchmarks.measuring import ROOT
from benchmarks.scaled import Shape, aligner_config
from benchmarks.watching import Loggers
from ppl.batches import Batch
from ppl.callbacks.exact_resume import ExactResume
from ppl.callbacks.loader_wait import LoaderWait
from ppl.callbacks.loading_report import LoadingReport
from ppl.callbacks.loss_spikes import LossSpikes
from ppl.callbacks.metrics_writer import MetricsWriter
from ppl.callbacks.non_finite_steps import NonFiniteSteps
from ppl.callbacks.out_of_memory import OutOfMemory
from ppl.callbacks.preemption import Preemption
from ppl.callbacks.throughput import Throughput
from ppl.datamodules.collate import collate
from ppl.datamodules.processing import DecodedMedium, Processor
from ppl.datamodules.records import PLACEHOLDER, Record, Turn
from ppl.functional.losses import next_token_loss
from ppl.modules.aligners.clip import CLIPAligner
from ppl.modules.backbones.video_llava import VideoLlavaBackbone
from ppl.modules.gradient_check import GradientCheck
from ppl.modules.lora import LoRA
from ppl.modules.poolers.none import NoPooler
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule

RATE, CLIP, LOG_EVERY = 2e-5, 1.0, 10
VOCABULARY = 512  # 2 % of the language model's weights, as of the 7B
POSITIONS = 8192


class Contestant(NamedTuple):
    """One process: what trains, and in which loop."""

    loop: str
    """``transformers``, ``lines`` (written by hand), ``bare`` (Lightning alone) or ``ppl`` (and what we add)."""
    pooled: bool = False
    lora: bool = False


class Turnstile:
    """Stops a loop where a step starts until the parent lets it on, and tells how long its steps took."""

    def __init__(self, pipe: Connection, block: int, before: int, loss: Callable[[], torch.Tensor]) -> None:
        self.pipe, self.block, self.before, self.loss = pipe, block, before, loss
        self.steps, self.start = 0, time.perf_counter()

    def __call__(self) -> None:
        if self.steps % self.block == 0:
            self.pipe.send(time.perf_counter() - self.start)
            if not self.pipe.recv():
                peak = peak_resident() - self.before
                self.pipe.send({"peak": peak, "loss": self.loss().item()})
                os._exit(0)
            self.start = time.perf_counter()
        self.steps += 1


class TheirTurns(transformers.TrainerCallback):
    """The turnstile in transformers' loop."""

    def __init__(self, turnstile: Turnstile) -> None:
        self.turnstile = turnstile

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        self.turnstile()


def peak_resident() -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines["VmHWM"].split()[0])


def build(shape: Shape, who: Contestant) -> SFTModule:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "recipes" / "parts" / "backbones" / "tiny_video_llava", folder, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        config["text_config"] |= {
            "hidden_size": shape.width, "intermediate_size": shape.mlp, "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads, "num_key_value_heads": shape.heads, "vocab_size": VOCABULARY,
            "head_dim": shape.width // shape.heads, "max_position_embeddings": POSITIONS,
        }  # fmt: skip
        config["vision_config"] |= {
            "hidden_size": shape.tower_width, "intermediate_size": shape.tower_mlp, "image_size": shape.image,
            "num_hidden_layers": shape.tower_layers, "num_attention_heads": shape.tower_width // 64,
            "patch_size": shape.patch,
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "open_clip_config.json").write_text(json.dumps(aligner_config(shape)))
        kept = "drop" if who.pooled else "keep"
        backbone = VideoLlavaBackbone(name, initialize="random", video_class_token=kept)
        if not who.pooled:
            return SFTModule(backbone, NoPooler(), warmup_ratio=0.0)
        aligner = CLIPAligner(f"local-dir:{name}", None, load_weights=False)
        rank = shape.width // 32  # the default's share of the 7B's width
        lora = LoRA(rank, 2.0 * rank) if who.lora else None
        return SFTModule(backbone, WeightedPooler((2, 3, 3)), aligner, lora=lora, warmup_ratio=0.0)


def make_batch(module: SFTModule, frames: int) -> Batch:
    """One video of noise, a question and its answer."""
    size = module.model.backbone.image_size
    pixels = torch.randint(256, (frames, 3, size, size), generator=torch.manual_seed(1), dtype=torch.uint8)
    medium = DecodedMedium("video", pixels, "")
    turns = [Turn("user", f"{PLACEHOLDER}\nwhat colour is the square ?"), Turn("assistant", "the square is red")]
    sample = Processor(module.input_spec).encode_decoded(Record("0", turns, [], origin="this benchmark"), [medium])
    return collate([sample], module.input_spec, "right")


def native_inputs(module: SFTModule, batch: Batch) -> dict[str, torch.Tensor]:
    """The batch for transformers' own forward, normalised beforehand."""
    backbone = module.model.backbone
    mean, std = (255 * torch.tensor(v).view(3, 1, 1) for v in (backbone.spec.image_mean, backbone.spec.image_std))
    ids = batch["input_ids"].clone()
    ids[ids == backbone.image_token_id] = backbone.hf.config.video_token_id
    videos = ((batch["pixel_values"] - mean) / std)[None]
    masks = {"attention_mask": batch["attention_mask"], "labels": batch["labels"]}
    return {"input_ids": ids, "pixel_values_videos": videos, **masks}


def contend(pipe: Connection, who: Contestant, shape: Shape, frames: int, steps: int, block: int) -> None:
    """Train for ever, a turn at a time: what a child does."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    before = memory()["resident"]
    module = build(shape, who)
    batch = make_batch(module, frames)
    inputs = native_inputs(module, batch) if who.loop == "transformers" else {}

    @torch.no_grad()
    def loss() -> torch.Tensor:
        hf = module.model.backbone.hf
        return hf(**inputs).loss if inputs else next_token_loss(module.model(batch), batch["labels"])

    sizes = [p.numel() for p in module.parameters() if p.requires_grad]
    pipe.send({"tokens": batch["input_ids"].shape[1], "trained": sum(sizes), "loss": loss().item()})
    turnstile = Turnstile(pipe, block, before, loss)
    with tempfile.TemporaryDirectory() as folder:
        if who.loop == "transformers":
            run_theirs(module, inputs, turnstile, steps, folder)
        elif who.loop == "lines":
            run_lines(module, batch, turnstile, steps)
        else:
            run_ours(module, batch, turnstile, steps, folder, added=who.loop == "ppl")


def run_theirs(module: SFTModule, inputs: dict, turnstile: Turnstile, steps: int, folder: str) -> None:
    arguments = transformers.TrainingArguments(
        folder, use_cpu=True, max_steps=steps, per_device_train_batch_size=1, learning_rate=RATE, max_grad_norm=CLIP,
        lr_scheduler_type="cosine", report_to="none", save_strategy="no", logging_steps=LOG_EVERY, disable_tqdm=True,
        log_level="error", remove_unused_columns=False, dataloader_pin_memory=False,
    )  # fmt: skip
    data: Any = [inputs] * steps
    trainer = transformers.Trainer(
        module.model.backbone.hf, arguments, lambda rows: rows[0], data, callbacks=[TheirTurns(turnstile)]
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()


def run_lines(module: SFTModule, batch: Batch, turnstile: Turnstile, steps: int) -> None:
    trained = [p for p in module.parameters() if p.requires_grad]
    module.train()
    optimizer = torch.optim.AdamW(trained, RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        turnstile()
        next_token_loss(module.model(batch), batch["labels"]).backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def run_ours(module: SFTModule, batch: Batch, turnstile: Turnstile, steps: int, folder: str, *, added: bool) -> None:
    """Lightning's loop; ``added``: with `ppl.training_cli`'s callbacks of fitting, its loggers and its profiler."""
    watchers = [
        ExactResume(), GradientCheck(), LoadingReport(), Throughput(), MetricsWriter(), OutOfMemory(), LossSpikes(),
        NonFiniteSteps(), Preemption(),
    ]  # fmt: skip
    data: Any = [batch] * steps
    logger: Any = [Loggers.TensorBoard(folder, name="", version=""), Loggers.Csv(folder, name="csv")]
    Trainer(
        accelerator="cpu", max_steps=steps, gradient_clip_val=CLIP, log_every_n_steps=LOG_EVERY,
        callbacks=[LambdaCallback(on_train_batch_start=lambda *_: turnstile()), *(watchers if added else [])],
        profiler=LoaderWait() if added else None,
        logger=logger if added else False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    ).fit(module, DataLoader(data, batch_size=None, collate_fn=lambda each: each))  # fmt: skip
