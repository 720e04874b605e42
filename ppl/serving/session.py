"""A conversation about one video or image: encoded once, scored and pooled anew for every question.

Axes: t h w frames, rows, columns of patches.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from transformers import TextIteratorStreamer

from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record, Turn
from ppl.functional.relevance import relevance_distribution
from ppl.functional.splicing import splice_visual_tokens
from ppl.modules.video_llm import VideoLLM


class ChatSession:
    """One medium and the questions asked about it.

    The vision tower runs in the constructor; a question costs the text tower, pooling, the projector and the language
    model.

    Args:
        model: In evaluation mode.
        processor: Reads the medium and renders the conversation as in training.
        path: A video or image file; which of them is decided by its content.
        start: Start of the clip in seconds, for videos.
        end: End of the clip in seconds, for videos.
    """

    def __init__(
        self,
        model: VideoLLM,
        processor: Processor,
        path: str | Path,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        self.model = model
        self.processor = processor
        self.history: list[Turn] = []
        self.medium = processor.read(MediumRef("image" if is_image(path) else "video", str(path), start, end))
        [self.prepared] = processor.prepare([self.medium])
        with torch.no_grad():
            [self.grid] = model.encode(self.prepared.frames.to(self._device), [self.prepared.info])

    @property
    def frames(self) -> UInt8[Tensor, "t 3 H W"]:
        """The sampled frames as decoded, upright; for an image, its base view's original."""
        return self.medium.frames

    @property
    def num_visual_tokens(self) -> int:
        """Tokens the medium becomes."""
        return self.model.num_visual_tokens(self.prepared.info)

    def relevance(self, question: str) -> Float[Tensor, "t h w"]:
        """How relevance is spread over all patches of the medium; sums to one (Eq. 1)."""
        with torch.no_grad():
            return relevance_distribution(self.model.relevance(self.grid, self._embed_question(question))).cpu()

    def ask(self, question: str, max_new_tokens: int = 128) -> Iterator[str]:
        """Answer a question, word by word; the whole answer joins the history when the iterator ends."""
        text = f"{PLACEHOLDER}\n{question}" if not self.history else question
        turns = [*self.history, Turn("user", text)]
        embeds = self._embed(turns, question)
        streamer = TextIteratorStreamer(self.model.backbone.tokenizer, skip_prompt=True, skip_special_tokens=True)
        failures: list[BaseException] = []

        def generate() -> None:
            try:
                mask = torch.ones(embeds.shape[:2], dtype=torch.int64, device=embeds.device)
                self.model.generate(embeds, mask, max_new_tokens=max_new_tokens, streamer=streamer)
            except BaseException as error:
                failures.append(error)
                streamer.end()

        worker = threading.Thread(target=generate, daemon=True)
        worker.start()
        pieces = []
        for piece in streamer:
            if piece:
                pieces.append(piece)
                yield piece
        worker.join()
        if failures:
            raise failures[0]
        self.history = [*turns, Turn("assistant", "".join(pieces).strip())]

    def _embed(self, turns: list[Turn], question: str) -> Float[Tensor, "1 l d"]:
        record = Record(id="chat", turns=turns, media=[], origin="this conversation")
        sample = self.processor.assemble(record, [self.prepared], for_generation=True)
        ids = sample.input_ids[None].to(self._device)
        with torch.no_grad():
            prompt = self._embed_question(question)[None] if self.model.pooler.uses_relevance else None
            tokens = self.model.visual_tokens([self.grid], [self.prepared.info], prompt)
            return splice_visual_tokens(self.model.backbone.embed(ids), ids, tokens, self.model.backbone.image_token_id)

    def _embed_question(self, question: str) -> Float[Tensor, " e"]:
        if self.model.aligner is None:
            msg = "got a model without an aligner, which scores no patches; choose a checkpoint with an aligner"
            raise ValueError(msg)
        return self.model.aligner.embed_prompts(self.model.aligner.tokenize([question]).to(self._device))[0]

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


def is_image(path: str | Path) -> bool:
    """Whether Pillow recognises a file as an image of one frame; everything else is left to FFmpeg."""
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) == 1
    except (OSError, ValueError):
        return False
