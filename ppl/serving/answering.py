"""Answer several questions of an engine in one batch, each as it would be alone.

Axes: b l rows, positions | d language channels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ppl.datamodules.processing import Processor
from ppl.datamodules.records import MediumRef, Turn
from ppl.modules.generation import Generation
from ppl.modules.video_llm import VideoLLM
from ppl.serving.answers import Answer, RowStreamer
from ppl.serving.conversation import Policy, conversation_record, embed_conversation, guide_of, pooled_tokens
from ppl.serving.encoded_media import EncodedMedium, MediaEncoder, Prepared


@dataclass(frozen=True)
class Question:
    """What is asked: a conversation that ends with a user's turn.

    Args:
        turns: Each ``PLACEHOLDER`` in them stands for one of the media.
        media: In the order of their placeholders.
        generation: How to answer; one beam.
        policy: Which questions guide pooling.
        pooler: One of the engine's poolers by name; None: the model's own.
        budget: Visual tokens of each medium at most; None: as the pooler has it.
        seconds: Time to answer, waiting included.
    """

    turns: tuple[Turn, ...]
    media: tuple[MediumRef, ...] = ()
    generation: Generation = Generation()  # noqa: RUF009  frozen
    policy: Policy = "per-turn"
    pooler: str | None = None
    budget: int | None = None
    seconds: float = 120.0


@dataclass(eq=False)
class Asked:
    """A question in line."""

    question: Question
    answer: Answer
    model: VideoLLM
    """Pools as the question wants."""
    processor: Processor
    """Of that model."""
    media: Sequence[EncodedMedium | Prepared] = ()
    queued: float = 0.0
    """When it stood in line, by `time.perf_counter`."""
    embeds: Float[Tensor, "1 l d"] | None = field(default=None, init=False)

    def goes_with(self, other: Asked) -> bool:
        """Whether both can be answered in one batch: lengths may differ, but not how tokens are chosen."""
        ours, theirs = (replace(asked.question.generation, max_new_tokens=1) for asked in (self, other))
        return ours == theirs and ours.seed is None

    def prepare(self, media: MediaEncoder) -> None:
        """Encode, pool and embed.

        Raises:
            ValueError: The conversation is no such, or does not fit the model.
        """
        start = time.perf_counter()
        before = media.num_found
        encoded = media.encode(self.media)
        pooling = time.perf_counter()
        record = conversation_record(self.question.turns, encoded)
        guide = guide_of(record.questions, self.question.policy)
        tokens = pooled_tokens(self.model, encoded, guide) if encoded else None
        self.embeds = embed_conversation(self.model, self.processor, record, encoded, tokens)
        context, positions = self.model.backbone.max_length, self.embeds.shape[1]
        self.answer.max_new_tokens = min(self.answer.max_new_tokens, context - positions)
        if self.answer.max_new_tokens < 1:
            self.question.generation.within(context, positions)  # says so
        end = time.perf_counter()
        self.answer.add(queue=start - self.queued, encode=pooling - start, pool=end - pooling)
        self.answer.facts = replace(
            self.answer.facts,
            num_prompt_tokens=positions,
            num_visual_tokens=0 if tokens is None else len(tokens),
            num_found=media.num_found - before,
        )


def answer_together(media: MediaEncoder, line: Sequence[Asked]) -> None:
    """Answer questions that go together; one that cannot be answered fails alone."""
    ready = []
    for asked in line:
        if not asked.answer.start():
            continue
        try:
            asked.prepare(media)
        except Exception as error:  # whatever it is belongs to whoever asked
            asked.answer.fail(error)
        else:
            ready.append(asked)
    while ready:
        batch, ready = _that_fit(ready)
        try:
            _generate(batch)
        except Exception as error:  # out of memory, say: the next ones may be smaller
            for asked in batch:
                asked.answer.fail(error)


def _that_fit(line: Sequence[Asked]) -> tuple[list[Asked], list[Asked]]:
    """Divide into a batch whose longest prompt leaves room for its longest answer, and the rest."""
    batch, rest = [], []
    for asked in line:
        rows = [*batch, asked]
        longest = max(_length(row) for row in rows) + max(row.answer.max_new_tokens for row in rows)
        (batch if longest <= asked.model.backbone.max_length else rest).append(asked)
    return batch, rest


def _length(asked: Asked) -> int:
    assert asked.embeds is not None, "prepared"
    return asked.embeds.shape[1]


def _generate(rows: Sequence[Asked]) -> None:
    model, answers = rows[0].model, [asked.answer for asked in rows]
    tokenizer = model.backbone.tokenizer
    embeds, mask = _padded([asked.embeds for asked in rows if asked.embeds is not None])
    generation = replace(rows[0].question.generation, max_new_tokens=max(answer.max_new_tokens for answer in answers))
    streamer = RowStreamer(answers, {tokenizer.eos_token_id, tokenizer.pad_token_id})
    with torch.no_grad():
        model.generate(embeds, mask, generation, streamer=streamer, cancelled=[answer.ended for answer in answers])
    for answer in answers:
        answer.end("stop")  # a stop string, which ends the row of the batch, is no token


def _padded(rows: Sequence[Float[Tensor, "1 _l d"]]) -> tuple[Float[Tensor, "b l d"], Int64[Tensor, "b l"]]:
    """Pad on the left."""
    flipped = [row[0].flip(0) for row in rows]
    embeds = pad_sequence(flipped, batch_first=True).flip(1)
    ones = [torch.ones(len(row), dtype=torch.int64, device=row.device) for row in flipped]
    return embeds.contiguous(), pad_sequence(ones, batch_first=True).flip(1)
