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
from ppl.serving.encoded_media import EncodedMedium
from ppl.serving.media_encoder import MediaEncoder, Prepared


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
    came: float = field(default_factory=time.perf_counter, init=False)
    embeds: Float[Tensor, "1 l d"] | None = field(default=None, init=False)

    @property
    def num_positions(self) -> int:
        """Length of the prompt, once `prepare` has made it."""
        assert self.embeds is not None
        return self.embeds.shape[1]

    def goes_with(self, other: Asked) -> bool:
        """Whether both can be answered in one batch: tokens have to be chosen alike, but answers may end otherwise.

        How media are pooled may differ too: the language model is the same. A seed is for one question alone.
        """
        ours, theirs = (
            replace(asked.question.generation, max_new_tokens=1, stop_strings=()) for asked in (self, other)
        )
        return ours == theirs and ours.seed is None

    def prepare(self, media: MediaEncoder) -> None:
        """Encode, pool and embed.

        Raises:
            ValueError: The conversation is no such, or does not fit the model.
        """
        start = time.perf_counter()
        before = media.num_found
        encoded = media.encode(self.media)
        self.media = ()  # with their pixels
        pooling = time.perf_counter()
        record = conversation_record(self.question.turns, encoded)
        guide = guide_of(record.questions, self.question.policy)
        tokens = pooled_tokens(self.model, encoded, guide) if encoded else None
        self.embeds = embed_conversation(self.model, self.processor, record, encoded, tokens)
        context, positions = self.model.backbone.max_length, self.num_positions
        self.answer.max_new_tokens = min(self.answer.max_new_tokens, context - positions)
        if self.answer.max_new_tokens < 1:
            self.question.generation.within(context, positions)  # says so
        end = time.perf_counter()
        self.answer.add(encode=pooling - start, pool=end - pooling)
        self.answer.facts = replace(
            self.answer.facts,
            num_prompt_tokens=positions,
            num_visual_tokens=0 if tokens is None else len(tokens),
            num_found=media.num_found - before,
        )

    def begin(self) -> None:
        """Note how long it waited: all the time up to now in which nothing was done for it alone."""
        waited = time.perf_counter() - self.came
        self.answer.add(queue=waited - sum(self.answer.facts.milliseconds.values()) / 1000)


def answer_together(media: MediaEncoder, line: Sequence[Asked]) -> None:
    """Answer questions that go together; one that cannot be answered fails alone.

    A batch that takes more memory than there is begins again in halves, unless it has said something.
    """
    ready = []
    for asked in line:
        if not asked.answer.is_wanted():
            continue
        try:
            asked.prepare(media)
        except Exception as error:  # whatever it is belongs to whoever asked
            asked.answer.fail(error)
        else:
            ready.append(asked)
    most = len(ready)
    while ready := [asked for asked in ready if asked.answer.is_wanted()]:
        batch, rest = _that_fit(ready, most)
        try:
            _generate(batch)
        except Exception as error:
            is_new = not any(asked.answer.facts.num_tokens for asked in batch)
            if isinstance(error, torch.OutOfMemoryError) and len(batch) > 1 and is_new:
                most = len(batch) // 2
                continue
            for asked in batch:
                asked.answer.fail(error)
        ready = rest


def _that_fit(line: Sequence[Asked], most: int) -> tuple[list[Asked], list[Asked]]:
    """Divide into a batch of at most so many rows, and the rest.

    Its longest prompt leaves room for its longest answer, and at most half of its prompts' positions are padding.
    """
    batch: list[Asked] = []
    rest = []
    for asked in line:
        rows = [*batch, asked]
        lengths = [row.num_positions for row in rows]
        is_dense = max(lengths) * len(rows) <= 2 * sum(lengths)
        has_room = max(lengths) + max(row.answer.max_new_tokens for row in rows) <= asked.model.backbone.max_length
        (batch if len(rows) <= most and is_dense and has_room else rest).append(asked)
    return batch, rest


@torch.no_grad()
def _generate(rows: Sequence[Asked]) -> None:
    model, answers = rows[0].model, [asked.answer for asked in rows]
    embeds, mask = _padded([asked.embeds for asked in rows if asked.embeds is not None])
    longest = max(answer.max_new_tokens for answer in answers)
    generation = replace(rows[0].question.generation, max_new_tokens=longest, stop_strings=())  # each looks for its own
    cancelled = [answer.ended for answer in answers]
    for asked in rows:
        asked.begin()
    model.generate(embeds, mask, generation, streamer=RowStreamer(answers), cancelled=cancelled)
    assert all(event.is_set() for event in cancelled), "an end token, or the last token, ends each"


def _padded(rows: Sequence[Float[Tensor, "1 _l d"]]) -> tuple[Float[Tensor, "b l d"], Int64[Tensor, "b l"]]:
    """Pad on the left."""
    ones = [torch.ones(row.shape[1], dtype=torch.int64, device=row.device) for row in rows]
    embeds = pad_sequence([row[0] for row in rows], batch_first=True, padding_side="left")
    return embeds, pad_sequence(ones, batch_first=True, padding_side="left")
