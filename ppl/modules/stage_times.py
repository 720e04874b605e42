"""Where the time of a question goes: vision tower, pooling, prefill, and each further token.

Axes: b rows | k new tokens | l positions | t h w frames, rows, columns | c vision channels.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ppl.batches import Batch
from ppl.functional.splicing import splice_visual_tokens
from ppl.modules.evaluation_mode import evaluating
from ppl.modules.video_llm import VideoLLM

Result = TypeVar("Result")


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds of one batch, of all its rows together."""

    tower: float
    """The vision tower over all frames; features that are cached are computed all the same."""
    pool: float
    """Text tower, relevance, pooling and projector: what a further question about the same media adds to prefill."""
    prefill: float
    """Splicing, and the language model over the prompt, up to the first token."""
    per_token: float
    """One greedy step of the language model, with its keys and values kept."""


def measure_stages(model: VideoLLM, batch: Batch, *, num_new_tokens: int = 8, repeats: int = 5) -> StageTimes:
    """Answer a batch ``repeats`` times, after once to warm up, and take the median of each stage.

    Args:
        model: Left as it was; measured in evaluation mode, without gradients and without its feature cache.
        batch: Left-padded prompts, as for prediction, with media.
        num_new_tokens: Tokens to answer with; at least 2, since the first comes with the prefill.
        repeats: Runs that count; at least 1.

    Raises:
        ValueError: A number is too small, or the batch has no media or is padded on the right.
    """
    if repeats < 1:
        msg = f"got repeats={repeats}, expected at least 1 run to take the median of"
        raise ValueError(msg)
    runs = [run_stages(model, batch, num_new_tokens=num_new_tokens)[0] for _ in range(repeats + 1)]
    return median_times(runs[1:])


def median_times(runs: list[StageTimes]) -> StageTimes:
    """The median of each stage."""
    return StageTimes(*(statistics.median(getattr(run, stage.name) for run in runs) for stage in fields(StageTimes)))


@torch.no_grad()
def run_stages(model: VideoLLM, batch: Batch, *, num_new_tokens: int = 8) -> tuple[StageTimes, Int64[Tensor, "b k"]]:
    """Answer a batch once, greedily, stage by stage; arguments and errors as for `measure_stages`.

    Returns:
        The times, and exactly ``num_new_tokens`` tokens a row: it does not stop at an end-of-answer token.
    """
    _check(batch, num_new_tokens)
    device = batch["input_ids"].device
    with evaluating(model):
        tower, grids = _timed(device, lambda: _encode(model, batch))
        pool, tokens = _timed(
            device, lambda: model.visual_tokens(grids, batch["media"], model.embed_prompts(batch["prompt_ids"]))
        )
        decoder = _Decoder(model, batch["attention_mask"])
        prefill, first = _timed(device, lambda: decoder.step(_splice(model, batch, tokens)))
        rest, new = _timed(device, lambda: decoder.answer(first, num_new_tokens))
    return StageTimes(tower, pool, prefill, rest / (num_new_tokens - 1)), new


class _Decoder:
    """The language model with its keys and values, as ``generate`` runs it."""

    def __init__(self, model: VideoLLM, attention_mask: Int64[Tensor, "b l"]) -> None:
        self.backbone = model.backbone
        self.mask = attention_mask
        self.cache = None

    def step(self, embeds: Float[Tensor, "b n d"]) -> Int64[Tensor, "b 1"]:
        """Append embeddings and choose the next token; only the last position passes the head."""
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -embeds.shape[1] :]
        output = self.backbone.language_model(
            inputs_embeds=embeds,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache = output.past_key_values
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        return self.backbone.hf.lm_head(output.last_hidden_state[:, -1:]).argmax(dim=-1)

    def answer(self, first: Int64[Tensor, "b 1"], num_new_tokens: int) -> Int64[Tensor, "b k"]:
        """Continue after the first token."""
        tokens = [first]
        while len(tokens) < num_new_tokens:
            tokens.append(self.step(self.backbone.embed(tokens[-1])))
        return torch.cat(tokens, dim=1)


def _encode(model: VideoLLM, batch: Batch) -> list[Float[Tensor, "_t _h _w c"]]:
    """What ``VideoLLM.encode`` does without a cache."""
    grid = model.backbone.encode_frames(batch["pixel_values"])
    return list(grid.split([medium.num_frames for medium in batch["media"]]))


def _splice(model: VideoLLM, batch: Batch, tokens: Float[Tensor, "n d"]) -> Float[Tensor, "b l d"]:
    ids = batch["input_ids"]
    return splice_visual_tokens(model.backbone.embed(ids), ids, tokens, model.backbone.image_token_id)


def _timed(device: torch.device, call: Callable[[], Result]) -> tuple[float, Result]:
    """Milliseconds of a call, work queued on the device included."""
    _synchronize(device)
    start = time.perf_counter()
    result = call()
    _synchronize(device)
    return 1000 * (time.perf_counter() - start), result


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _check(batch: Batch, num_new_tokens: int) -> None:
    if num_new_tokens < 2:
        msg = f"got num_new_tokens={num_new_tokens}, expected at least 2: the first token comes with the prefill"
        raise ValueError(msg)
    if not batch["media"]:
        msg = "got a batch without media, expected one with a video or an image: nothing to encode and pool"
        raise ValueError(msg)
    if not batch["attention_mask"][:, -1].all():
        msg = "got a batch padded on the right, expected prompts padded on the left, as for prediction"
        raise ValueError(msg)
