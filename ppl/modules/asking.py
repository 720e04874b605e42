"""Answer several questions about the same media: encode once, then pool and generate a few questions at a time.

Axes: f frames of all media of one question | t h w frames, rows, columns of one medium | c vision channels
| b l questions, positions | d language channels.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ppl.batches import AskedBatch
from ppl.functional.splicing import splice_visual_tokens
from ppl.modules.generation import Generation, decode_answers
from ppl.modules.video_llm import VideoLLM


@torch.no_grad()
def answer_asked(model: VideoLLM, batch: AskedBatch, generation: Generation) -> tuple[list[str], dict[str, float]]:
    """Answer each question of a batch, in its order.

    Args:
        model: Held whole by this process.
        batch: Questions about the same media, whose pixels are there once.
        generation: How to answer, but for the number of tokens, which is the batch's.

    Returns:
        The answers, and the milliseconds that the stages ``encode``, ``pool`` and ``generate`` took for each.
    """
    generation = replace(generation, max_new_tokens=batch["max_new_tokens"])
    clock, number = _Clock(batch["input_ids"].device), len(batch["rows"])
    each = len(batch["media"]) // number
    grids = model.encode(batch["pixel_values"], batch["media"][:each]) if each else []
    clock.stop("encode")
    texts: list[str] = []
    for start in range(0, number, batch["rows_at_a_time"]):
        embeds, mask = _embed(model, batch, grids, start, min(start + batch["rows_at_a_time"], number))
        clock.stop("pool")
        tokens = model.generate(embeds, mask, generation)
        texts += decode_answers(model.backbone.tokenizer, tokens, generation.stop_strings)
        clock.stop("generate")
    return texts, {stage: took / number for stage, took in clock.milliseconds.items()}


def _embed(
    model: VideoLLM, batch: AskedBatch, grids: list[Float[Tensor, "_t _h _w c"]], start: int, stop: int
) -> tuple[Float[Tensor, "b l d"], Int64[Tensor, "b l"]]:
    """Embed some of the questions, without the padding that all of them begin with."""
    mask = batch["attention_mask"][start:stop]
    first = int(mask.argmax(dim=1).min())
    ids, mask = batch["input_ids"][start:stop, first:], mask[:, first:]
    embeds = model.backbone.embed(ids)
    media = [info._replace(sample=info.sample - start) for info in batch["media"] if start <= info.sample < stop]
    if media:
        prompt_ids = batch["prompt_ids"]
        prompts = model.embed_prompts(None if prompt_ids is None else prompt_ids[start:stop])
        tokens = model.visual_tokens(grids * (stop - start), media, prompts)
        embeds = splice_visual_tokens(embeds, ids, tokens, model.backbone.image_token_id)
    return embeds, mask


class _Clock:
    """Times stages; waits for the device only where one ends."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.milliseconds: defaultdict[str, float] = defaultdict(float)
        self._began = self._now()

    def stop(self, stage: str) -> None:
        """End a stage, and begin the next."""
        now = self._now()
        self.milliseconds[stage] += now - self._began
        self._began = now

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return 1000 * time.perf_counter()
