"""A conversation about videos and images: each encoded once, scored and pooled by its questions.

Axes: t h w frames, rows, columns of patches | n visual tokens | l positions | d language channels.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from threading import Event

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Turn
from ppl.functional.relevance import relevance_distribution
from ppl.modules.generation import Generation
from ppl.modules.poolers.base import Pooler
from ppl.modules.video_llm import VideoLLM
from ppl.serving.conversation import (
    Policy,
    conversation_record,
    embed_conversation,
    guide_of,
    pooled_tokens,
    without_placeholders,
)
from ppl.serving.encoded_media import EncodedMedia, EncodedMedium, Keeping, medium_at
from ppl.serving.media_encoder import MediaEncoder
from ppl.serving.prefix_cache import PrefixCache
from ppl.serving.streaming import stream_answer
from ppl.serving.variants import for_model, with_pooler


class ChatSession:
    """Some media and the questions asked about them.

    The vision tower runs when a medium is added; a question costs the text tower, pooling, the projector and the
    language model, at most. Whatever a prompt begins with that the language model has already been through is not run
    again, so where the visual tokens stay the same, a question costs its own words.

    A pooler that reads relevance is guided by (``policy``, which may change between questions):

    - ``per-turn``: the newest question. The visual tokens change with it, and all that follows them is run again.
    - ``first-turn``: the first question, for the whole conversation; further ones only add their words.
    - ``union``: all different questions so far, joined by blanks as those of a record are in training. The aligner's
      context bounds their length.

    Args:
        model: In evaluation mode.
        processor: Reads media and renders the conversation as in training.
        path: A video or image file; which of them is decided by its content. None: a conversation about nothing yet.
        start: Start of the clip in seconds, for videos.
        end: End of the clip in seconds, for videos.
        policy: Which questions guide pooling.
    """

    def __init__(
        self,
        model: VideoLLM,
        processor: Processor,
        path: str | Path | None = None,
        start: float | None = None,
        end: float | None = None,
        policy: Policy = "per-turn",
    ) -> None:
        self.model = model
        self.policy: Policy = policy
        self.processor = processor
        self.history: list[Turn] = []
        self.media: list[EncodedMedium] = []
        self.num_prompt_tokens = 0
        """Positions before the newest answer, visual tokens included."""
        self.num_answer_tokens = 0
        self._num_asked_about = 0
        self._encoder = MediaEncoder(model, processor, EncodedMedia(Keeping(memory_gib=4.0, seconds=86400.0)))
        self._pooled: tuple[object, Tensor] | None = None
        self._prefix = PrefixCache(model.backbone.hf.config)
        if path is not None:
            self.add(medium_at(path, start, end))

    def add(self, ref: MediumRef) -> EncodedMedium:
        """Read and encode a further medium; the next question is about it too.

        Raises:
            ValueError: There is no such medium in the file, or an image is to be cut by time.
            FileNotFoundError: There is no file.
        """
        self._read([*(medium.ref for medium in self.media), ref])
        return self.media[-1]

    def begin(self, turns: Sequence[Turn] = (), refs: Sequence[MediumRef] = ()) -> None:
        """Begin another conversation; what is encoded stays so for a while, in case it is about the same media.

        Args:
            turns: What it goes on from; ends with an answer, if there are any.
            refs: Its media; those without a placeholder in ``turns`` are the next question's.

        Raises:
            ValueError: There is no such medium in a file.
            FileNotFoundError: A file is not there.
        """
        self._read(refs)
        self.history = list(turns)
        self._num_asked_about = sum(turn.text.count(PLACEHOLDER) for turn in turns)

    def undo(self) -> str:
        """Forget the newest question and its answer, and give the question; media stay, for the next one.

        Raises:
            ValueError: Nothing was asked.
        """
        if len(self.history) < 2:  # nothing, or a system turn
            msg = "got no question to take back, expected one; ask first"
            raise ValueError(msg)
        asked = self.history[-2]
        self.history = self.history[:-2]
        self._num_asked_about -= asked.text.count(PLACEHOLDER)
        return without_placeholders(asked.text)

    def free(self) -> None:
        """Let go of all that can be computed again, after an answer that ran out of memory; nothing said is lost."""
        self._pooled, self._prefix = None, PrefixCache(self.model.backbone.hf.config)
        self._encoder.kept.drop_all_but(self.media)
        torch.cuda.empty_cache()  # nothing where there is no GPU

    def switch(self, pooler: Pooler) -> None:
        """Pool in another way from the next question on; all turns so far are read again through it.

        Raises:
            ValueError: The model cannot pool so, or not these media; then nothing changes.
        """
        model = with_pooler(self.model, pooler)
        for medium in self.media:
            model.num_visual_tokens(medium.info)
        self.model = model
        self.processor = for_model(self.processor, model)

    @property
    def frames(self) -> UInt8[Tensor, "t 3 H W"]:
        """The newest medium's sampled frames as decoded, upright; of an image, the image."""
        return self._newest().frames

    @property
    def num_visual_tokens(self) -> int:
        """Tokens the media become."""
        return sum(self.model.num_visual_tokens(medium.info) for medium in self.media)

    def relevance(self, question: str) -> Float[Tensor, "t h w"]:
        """How relevance is spread over all patches of the newest medium; sums to one (Eq. 1)."""
        return relevance_of(self.model, self._newest(), question)

    def ask(self, question: str, generation: Generation = Generation()) -> Generator[str, None, None]:  # noqa: B008  frozen
        """Answer a question, word by word; the whole answer joins the history when the iterator ends.

        Closing the iterator before that ends generation, and leaves the history as it was. With beams the answer comes
        at the end, and all of the prompt is run.

        Args:
            question: In which ``PLACEHOLDER`` may say where new media stand; otherwise they stand before it.
            generation: How to answer.

        Raises:
            ValueError: The prompt does not fit the model, or another answer has joined the history meanwhile.
        """
        num_media = len(self.media)
        shown = f"{PLACEHOLDER}\n" * (num_media - self._num_asked_about - question.count(PLACEHOLDER))
        turns = [*self.history, Turn("user", f"{shown}{question}")]
        settings = generation.with_stops(self.processor.template.stop_strings)
        embeds = self._embed(turns)
        self.num_prompt_tokens, self.num_answer_tokens = embeds.shape[1], 0
        streams = settings.num_beams == 1
        cache = self._prefix.take(embeds) if streams else None

        @torch.no_grad()
        def generate(streamer: BaseStreamer | None, cancelled: Event) -> Tensor:
            mask = torch.ones(embeds.shape[:2], dtype=torch.int64, device=embeds.device)
            tokens = self.model.generate(embeds, mask, settings, streamer=streamer, cancelled=cancelled, cache=cache)
            self.num_answer_tokens = tokens.shape[1]
            if cache is not None:
                self._prefix.keep(cache, torch.cat([embeds, self.model.backbone.embed(tokens)], dim=1))
            return tokens

        tokenizer = self.model.backbone.tokenizer
        answer = yield from stream_answer(generate, tokenizer, settings.stop_strings, streams=streams)
        if self.history != turns[:-1]:
            msg = (
                f"got {len(self.history)} turn(s) of history at the end of an answer that began with {len(turns) - 1}, "
                "expected the same: this answer knows nothing of the others; end or close one answer before the next"
            )
            raise ValueError(msg)
        self.history = [*turns, Turn("assistant", answer.strip())]
        self._num_asked_about = num_media

    def _read(self, refs: Sequence[MediumRef]) -> None:
        for ref in refs:
            if ref.kind == "image" and (ref.start, ref.end) != (None, None):
                msg = f"got {ref.path}, an image, from {ref.start} to {ref.end} s; expected no times"
                raise ValueError(msg)
        self.media = self._encoder.read(refs)
        self._pooled = None

    def _embed(self, turns: list[Turn]) -> Float[Tensor, "1 l d"]:
        record = conversation_record(turns, self.media)
        try:
            tokens = self._visual_tokens(guide_of(record.questions, self.policy)) if self.media else None
        except ValueError as error:
            if self.policy == "union":
                error.add_note("policy 'union' makes one prompt of all questions so far; choose another policy")
            raise
        return embed_conversation(self.model, self.processor, record, self.media, tokens)

    def _visual_tokens(self, guide: str) -> Float[Tensor, "n d"]:
        """Pool and project, unless the same text did it last, in the same way."""
        model = self.model
        how = guide if model.pooler.uses_relevance else None, model.pooler, model.pool_site
        if self._pooled is None or self._pooled[0] != how:
            self._pooled = how, pooled_tokens(model, self.media, guide)
        return self._pooled[1]

    def _newest(self) -> EncodedMedium:
        if not self.media:
            msg = "got a conversation without a video or image, expected one; add one first"
            raise ValueError(msg)
        return self.media[-1]


@torch.no_grad()
def relevance_of(model: VideoLLM, medium: EncodedMedium, question: str) -> Float[Tensor, "t h w"]:
    """How relevance is spread over all patches of a medium; sums to one (Eq. 1).

    Raises:
        ValueError: The model has no aligner.
    """
    if model.aligner is None:
        msg = "got a model without an aligner, which scores no patches; choose a checkpoint with an aligner"
        raise ValueError(msg)
    device = next(model.parameters()).device
    prompt = model.aligner.embed_prompts(model.aligner.tokenize([question]).to(device))[0]
    return relevance_distribution(model.relevance(medium.grid, prompt)).cpu()
