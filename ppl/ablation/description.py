"""What a tested cell looks like from outside: accuracies, visual tokens, and where the model looked.

Axes: t frames | h w patch rows, columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import LightningCLI

from ppl.batches import IGNORE_INDEX, Batch
from ppl.datamodules.base import ConversationDataModule
from ppl.functional.relevance import relevance_distribution
from ppl.modules.sft import SFTModule
from ppl.modules.video_llm import VideoLLM
from ppl.serving.overlays import heatmap_strip


def describe(cli: LightningCLI, folder: Path) -> dict[str, Any]:
    """The part of a `CellResult` that a finished test knows; draws ``heatmap.png`` if the pooler reads the prompt.

    Raises:
        ValueError: The recipe is no fine-tuning on conversations.
    """
    module, data = cli.model, cli.datamodule
    if not isinstance(module, SFTModule) or not isinstance(data, ConversationDataModule):
        msg = (
            f"got {type(module).__name__} with {type(data).__name__}, expected SFTModule with conversations: "
            "ablations compare answers; choose another base recipe"
        )
        raise ValueError(msg)
    prefix = "test/accuracy/"
    metrics = cli.trainer.callback_metrics
    batch = first_prompt(cli)
    if module.model.pooler.uses_relevance:
        draw(module.model, batch, folder / "heatmap.png")
    return {
        "tokens": module.model.num_visual_tokens(batch["media"][0]),
        "accuracy": {k.removeprefix(prefix): float(v) for k, v in metrics.items() if k.startswith(prefix)},
    }


def first_prompt(cli: LightningCLI) -> Batch:
    """The first test question that shows something, as a batch of one row without its answer.

    Raises:
        ValueError: No test question has an image or a video.
    """
    for batch in cli.datamodule.test_dataloader():
        if batch["media"]:
            return prompt_of(batch, batch["media"][0].sample)
    msg = "got test questions without any image or video, expected some: poolers have nothing to pool"
    raise ValueError(msg)


def prompt_of(batch: Batch, row: int) -> Batch:
    """Cut one row of a right-padded batch before its first labelled token: what there is to answer."""
    length = int((batch["labels"][row] != IGNORE_INDEX).int().argmax())
    rows = slice(row, row + 1)
    frames = batch["pixel_values"].split([medium.num_frames for medium in batch["media"]])
    shown = [i for i, medium in enumerate(batch["media"]) if medium.sample == row]
    prompt_ids = batch["prompt_ids"]
    return {
        "input_ids": batch["input_ids"][rows, :length],
        "attention_mask": batch["attention_mask"][rows, :length],
        "labels": batch["labels"][rows, :length],
        "pixel_values": torch.cat([frames[i] for i in shown]),
        "media": [batch["media"][i]._replace(sample=0) for i in shown],
        "prompts": batch["prompts"][rows],
        "prompt_ids": None if prompt_ids is None else prompt_ids[rows],
        "ids": batch["ids"][rows],
        "categories": batch["categories"][rows],
        "answers": batch["answers"][rows],
    }


@torch.no_grad()
def draw(model: VideoLLM, batch: Batch, path: Path) -> None:
    """Draw where the model looks for the first question of a batch."""
    medium = batch["media"][0]
    frames = batch["pixel_values"][: medium.num_frames]
    [grid] = model.encode(frames.to(next(model.parameters()).device), [medium])
    prompt_ids = batch["prompt_ids"]
    prompts = None if prompt_ids is None else model.embed_prompts(prompt_ids.to(grid.device))
    if prompts is None:
        return
    relevance = relevance_distribution(model.relevance(grid, prompts[0])).cpu()
    heatmap_strip(frames.cpu(), relevance.float(), batch["prompts"][0]).save(path, format="PNG")
