"""How answers are generated from embeddings: greedily, by sampling or by beams, up to a stop string.

Axes: b l batch, positions | d language channels | k new tokens.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import (
    Cache,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
)
from transformers.generation.streamers import BaseStreamer

from ppl.modules.stopping import Cancelled, before_stop, stopping


@dataclass(frozen=True)
class Generation:
    """How to answer; a generation config that came with a checkpoint's weights changes nothing of it.

    Args:
        max_new_tokens: Longest answer, in tokens.
        temperature: Of sampling; 0 takes the most probable token, or the most probable of ``num_beams`` answers.
        top_p: Sample from the fewest tokens whose probabilities sum to this (Holtzman et al. 2020, arXiv:1904.09751).
        top_k: Sample from this many most probable tokens; 0: from all.
        num_beams: Answers that are followed at once; 1: no beam search.
        repetition_penalty: Makes tokens that the answer already has less probable (Keskar et al. 2019,
            arXiv:1909.05858); 1 does not. Those of the prompt do not count: the language model gets embeddings.
        seed: Of sampling, anew for each batch or question; null: chance goes on from where the process is.
        stop_strings: What ends an answer without being part of it, beside the tokenizer's end token.

    Raises:
        ValueError: A value is out of range, or would change nothing beside the others.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    num_beams: int = 1
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop_strings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.stop_strings, str):
            msg = f"got stop_strings={self.stop_strings!r}, expected several texts; write ({self.stop_strings!r},)"
            raise ValueError(msg)
        ranges = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < math.inf, "0 (greedy) or more"),
            "top_p": (0 < self.top_p <= 1, "more than 0 and at most 1 (all tokens)"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "num_beams": (self.num_beams >= 1, "at least 1 (no beam search)"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "more than 0; 1 is no penalty"),
            "stop_strings": (all(self.stop_strings), "texts that are not empty; leave the empty one out"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                msg = f"got {name}={getattr(self, name)!r}, expected {expected}"
                raise ValueError(msg)
        if self.temperature == 0 and (self.top_p < 1 or self.top_k > 0):
            msg = (
                f"got top_p={self.top_p} and top_k={self.top_k} with temperature=0, which takes the most probable "
                "token whatever they are; expected a temperature above 0 for sampling: raise it, or leave them out"
            )
            raise ValueError(msg)
        if self.temperature > 0 and self.num_beams > 1:
            msg = (
                f"got num_beams={self.num_beams} with temperature={self.temperature}, expected one of them: beams look "
                "for the most probable answer, sampling does not; set temperature to 0 or num_beams to 1"
            )
            raise ValueError(msg)

    def with_stops(self, stop_strings: Sequence[str]) -> Generation:
        """The same with further stop strings, such as a chat template's."""
        return replace(self, stop_strings=tuple(dict.fromkeys([*self.stop_strings, *stop_strings])))

    def within(self, context: int, prompt: int) -> Generation:
        """The same with answers that end, with a warning, where the positions of a model do.

        Args:
            context: Positions the language model was configured for.
            prompt: Positions of the longest prompt.

        Raises:
            ValueError: The prompt leaves no position to an answer.
        """
        room = context - prompt
        change = "sample fewer frames, pool with a larger kernel or shorten the text"
        if room < 1:
            msg = f"got a prompt of {prompt} positions, expected fewer than the {context} of the context; {change}"
            raise ValueError(msg)
        if room >= self.max_new_tokens:
            return self
        warnings.warn(
            f"got max_new_tokens={self.max_new_tokens} after {prompt} positions of prompt in a context of {context}: "
            f"answers end after their first {room} tokens; {change}, or lower max_new_tokens",
            stacklevel=2,
        )
        return replace(self, max_new_tokens=room)


@torch.no_grad()
def generate(
    hf: Any,  # noqa: ANN401  as `Backbone.hf`
    tokenizer: PreTrainedTokenizerBase,
    inputs_embeds: Float[Tensor, "b l d"],
    attention_mask: Int64[Tensor, "b l"],
    generation: Generation,
    *,
    streamer: BaseStreamer | None = None,
    cancelled: Cancelled | None = None,
    cache: Cache | None = None,
) -> Int64[Tensor, "b k"]:
    """Answer prompts by transformers' own ``generate``; only the new tokens are returned.

    Rows of unequal length are padded on the left: positions are counted from each row's first one in the mask, so that
    a row's answer is what it is alone.

    Args:
        hf: A ``...ForConditionalGeneration`` model.
        tokenizer: Its tokenizer.
        inputs_embeds: Embedded prompts.
        attention_mask: 0 where a row is padded.
        generation: How to answer. A row ends after the tokens that complete a stop string: see `decode_answers`.
        streamer: Gets the rows' tokens step by step, (b,); those of a row that has ended are padding.
        cancelled: See `ppl.modules.stopping.stopping`.
        cache: Keys and values of the first positions of a single row, which are not computed again; it grows.

    Raises:
        ValueError: A streamer together with beams, or a cache together with beams or several rows.
    """
    _check_streaming(generation.num_beams, len(inputs_embeds), streamer, cache)
    model = copy(hf)  # shallow: it shares everything but the settings that came with its weights
    model.generation_config = GenerationConfig()
    with _seeded(generation.seed, inputs_embeds.device):
        return model.generate(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            generation_config=_settings(generation, tokenizer),
            logits_processor=_penalty(generation.repetition_penalty),
            stopping_criteria=stopping(generation.stop_strings, tokenizer, cancelled),
            streamer=streamer,
            past_key_values=cache,
        )


def _check_streaming(num_beams: int, num_rows: int, streamer: BaseStreamer | None, cache: Cache | None) -> None:
    got = f"with num_beams={num_beams} and {num_rows} row(s)"
    if streamer is not None and num_beams > 1:
        msg = f"got a streamer {got}, expected one beam, whose tokens are known as they come; set num_beams to 1"
        raise ValueError(msg)
    if cache is not None and (num_beams > 1 or num_rows > 1):
        msg = f"got a cache of earlier positions {got}, expected one beam and one row; leave the cache out"
        raise ValueError(msg)


def decode_answers(
    tokenizer: PreTrainedTokenizerBase, tokens: Int64[Tensor, "b k"], stop_strings: Sequence[str]
) -> list[str]:
    """Turn what `generate` returned into texts, without special tokens, stop strings and outer white space."""
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [before_stop(text, stop_strings).strip() for text in texts]


def end_tokens(tokenizer: PreTrainedTokenizerBase, stop_strings: Sequence[str]) -> list[int]:
    """Tokens that end an answer: the tokenizer's end token, and stop strings that texts leave out for being special."""
    further = [stop for stop in stop_strings if stop in tokenizer.all_special_tokens]
    ends: list[Any] = [tokenizer.eos_token_id, *map(tokenizer.convert_tokens_to_ids, further)]
    return ends


def _settings(generation: Generation, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    sampling: dict[str, Any] = (
        {"temperature": generation.temperature, "top_p": generation.top_p, "top_k": generation.top_k}
        if generation.temperature > 0
        else {}
    )
    return GenerationConfig(
        max_new_tokens=generation.max_new_tokens,
        do_sample=generation.temperature > 0,
        num_beams=generation.num_beams,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=end_tokens(tokenizer, generation.stop_strings),
        **sampling,
    )


def _penalty(strength: float) -> LogitsProcessorList:
    """Made here, because transformers takes a row's padding for tokens of its answer where prompts are embeddings."""
    return LogitsProcessorList([RepetitionPenaltyLogitsProcessor(strength)] if strength != 1 else [])


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Let chance begin at the seed, and put it back where it was."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
