"""A further question of a `ChatSession`, which keeps the patch grid: its whole time to the first token.

Beside it, in turn, the language model alone on the tokens that the question pools and projects; and the same question
as the second one under ``first-turn``, whose visual tokens stay, so that keys and values of all before it are kept.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring import seconds
from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, Record, Turn
from ppl.datamodules.synthetic.writer import write_video
from ppl.functional.splicing import splice_visual_tokens
from ppl.modules.generation import Generation
from ppl.modules.video_llm import VideoLLM
from ppl.serving.session import ChatSession

FIRST = "And what happens first?"
QUESTION = "What does the person who opens the door at the end of the video hold in the left hand, and what for?"
ONE = Generation(max_new_tokens=1)


@torch.no_grad()
def second_question(model: VideoLLM, frames: int, rounds: int) -> dict:
    """The session's time to the first token, and the language model's alone on what the session gave it."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        write_video(video, np.random.default_rng(0).integers(256, size=(frames, 3, 48, 48), dtype=np.uint8))
        session = ChatSession(model, Processor(model.input_spec, num_frames=frames), video)

    def begin(policy: str) -> None:
        """Back to a conversation's beginning, or to its first answer; other visual tokens than the last call's."""
        session.policy = policy
        session.history.clear()
        if policy == "first-turn":
            list(session.ask(FIRST, ONE))

    begin("first-turn")
    alone = embed(model, session, [Turn("user", f"{PLACEHOLDER}\n{QUESTION}")], QUESTION)
    both = embed(model, session, [*session.history, Turn("user", QUESTION)], FIRST)
    calls: dict[str, tuple[str, Callable[[], object]]] = {
        "question": ("per-turn", lambda: list(session.ask(QUESTION, ONE))),
        "prefill": ("per-turn", lambda: model.generate(*alone, ONE)),
        **{name: ("per-turn", call) for name, call in parts(model, session).items()},
        "question, first-turn": ("first-turn", lambda: list(session.ask(QUESTION, ONE))),
        "prefill, first-turn": ("first-turn", lambda: model.generate(*both, ONE)),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, (policy, call) in calls.items():
            begin(policy)
            times[name].append(1000 * seconds(call, session.media[0].grid.device))
            if number == 0:
                times[name].clear()
    return {
        "frames": frames,
        "visual_tokens": session.num_visual_tokens,
        "milliseconds": {name: round(statistics.median(values), 1) for name, values in times.items()},
        **ratios(times, "times_prefill", "question", "prefill"),
        **ratios(times, "first_turn_times_prefill", "question, first-turn", "prefill, first-turn"),
    }


def ratios(times: dict[str, list[float]], name: str, over: str, under: str) -> dict:
    """Each round's ratio of two calls, and their median."""
    rounds = [one / other for one, other in zip(times[over], times[under], strict=True)]
    return {name: round(statistics.median(rounds), 3), f"{name}_by_round": [round(ratio, 3) for ratio in rounds]}


def embed(model: VideoLLM, session: ChatSession, turns: list[Turn], guide: str) -> tuple[Tensor, Tensor]:
    """The prompt that the session makes of a conversation pooled by a question, and its mask."""
    record = Record("clip", turns, [], origin="this benchmark")
    ids = session.processor.assemble(record, [session.media[0].prepared], for_generation=True).input_ids[None]
    prompts = model.aligner.embed_prompts(model.aligner.tokenize([guide]))
    tokens = model.visual_tokens([session.media[0].grid], [session.media[0].prepared.info], prompts)
    embeds = splice_visual_tokens(model.backbone.embed(ids), ids, tokens, model.backbone.image_token_id)
    return embeds, torch.ones_like(ids)


def parts(model: VideoLLM, session: ChatSession) -> dict:
    """What a question costs beside prefill, piece by piece."""
    ids = model.aligner.tokenize([QUESTION])
    [prompt] = model.aligner.embed_prompts(ids)
    relevance = model.relevance(session.media[0].grid, prompt)
    pooled = model.pooler(session.media[0].grid, relevance, "video")
    return {
        "text tower": lambda: model.aligner.embed_prompts(ids),
        "relevance": lambda: model.relevance(session.media[0].grid, prompt),
        "pooling": lambda: model.pooler(session.media[0].grid, relevance, "video"),
        "projector": lambda: model.backbone.project(pooled),
    }
