"""A further question of a `ChatSession`, which keeps the patch grid: its whole time to the first token.

Beside it, in turn, the language model alone on the tokens that the question pools and projects.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring import seconds
from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, Record, Turn
from ppl.datamodules.synthetic.writer import write_video
from ppl.functional.splicing import splice_visual_tokens
from ppl.modules.video_llm import VideoLLM
from ppl.serving.session import ChatSession

QUESTION = "What does the person who opens the door at the end of the video hold in the left hand, and what for?"


@torch.no_grad()
def second_question(model: VideoLLM, frames: int, rounds: int) -> dict:
    """The session's time to the first token, and the language model's alone on what the session gave it."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        write_video(video, np.random.default_rng(0).integers(256, size=(frames, 3, 48, 48), dtype=np.uint8))
        session = ChatSession(model, Processor(model.input_spec, num_frames=frames), video)
    list(session.ask("And what happens first?", max_new_tokens=1))
    embeds, mask = embed_question(model, session)
    calls = {
        "question": lambda: list(session.ask(QUESTION, max_new_tokens=1)),
        "prefill": lambda: model.generate(embeds, mask, max_new_tokens=1),
        **parts(model, session),
    }
    device = embeds.device
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            session.history.clear()  # so that both answer the same prompt
            times[name].append(1000 * seconds(call, device))
            if number == 0:
                times[name].clear()
    ratios = [question / prefill for question, prefill in zip(times["question"], times["prefill"], strict=True)]
    return {
        "frames": frames,
        "visual_tokens": session.num_visual_tokens,
        "milliseconds": {name: round(statistics.median(values), 1) for name, values in times.items()},
        "times_prefill": round(statistics.median(ratios), 3),
        "times_prefill_by_round": [round(ratio, 3) for ratio in ratios],
    }


def embed_question(model: VideoLLM, session: ChatSession) -> tuple[Tensor, Tensor]:
    """The prompt that the session makes of the question, pooled and projected."""
    record = Record("clip", [Turn("user", f"{PLACEHOLDER}\n{QUESTION}")], [], origin="this benchmark")
    ids = session.processor.assemble(record, [session.prepared], for_generation=True).input_ids[None]
    prompts = model.aligner.embed_prompts(model.aligner.tokenize([QUESTION]))
    tokens = model.visual_tokens([session.grid], [session.prepared.info], prompts)
    embeds = splice_visual_tokens(model.backbone.embed(ids), ids, tokens, model.backbone.image_token_id)
    return embeds, torch.ones_like(ids)


def parts(model: VideoLLM, session: ChatSession) -> dict:
    """What a question costs beside prefill, piece by piece."""
    ids = model.aligner.tokenize([QUESTION])
    [prompt] = model.aligner.embed_prompts(ids)
    relevance = model.relevance(session.grid, prompt)
    pooled = model.pooler(session.grid, relevance, "video")
    return {
        "text tower": lambda: model.aligner.embed_prompts(ids),
        "relevance": lambda: model.relevance(session.grid, prompt),
        "pooling": lambda: model.pooler(session.grid, relevance, "video"),
        "projector": lambda: model.backbone.project(pooled),
    }
