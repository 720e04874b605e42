"""Where relevance lies before and after instruction tuning: its share on the object that a question asks about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ppl.checkpoints import load
from ppl.datamodules.synthetic.questions import ask
from ppl.datamodules.synthetic.world import object_mask, random_scene, render
from ppl.functional.relevance import relevance_distribution
from ppl.modules.alignment_weights import load_alignment
from ppl.modules.video_llm import VideoLLM

TYPES = ("colour", "shape", "motion", "when")
SEED = 5_000_011


def localise(checkpoint: Path, alignment: Path, num_questions: int = 400) -> dict[str, dict[str, float]]:
    """Measure the tuned model, then the same model with the alignment's weights put back."""
    model = load(checkpoint).model
    after = measure(model, num_questions)
    load_alignment(alignment, model.backbone, model.aligner)
    return {"before": measure(model, num_questions), "after": after}


@torch.no_grad()
def measure(model: VideoLLM, num_questions: int) -> dict[str, float]:
    """Pointing accuracy, relevance on the asked object, and that over the object's share of all patches."""
    assert model.aligner is not None
    rng = np.random.default_rng(SEED)
    hits, masses, shares = [], [], []
    for index in range(num_questions):
        scene = random_scene(rng)
        question = ask(scene, {TYPES[index % len(TYPES)]: 1.0}, rng)
        prompt = model.aligner.embed_prompts(model.aligner.tokenize([question.text]))[0]
        grid = model.backbone.encode_frames(torch.from_numpy(render(scene)))
        attention = relevance_distribution(model.relevance(grid, prompt))
        inside = torch.from_numpy(object_mask(scene, question.asked[0], model.backbone.grid_size))
        hits.append(inside.flatten()[attention.argmax()].item())
        masses.append(attention[inside].sum().item())
        shares.append(inside.float().mean().item())
    mass, uniform = float(np.mean(masses)), float(np.mean(shares))
    return {
        "pointing": round(float(np.mean(hits)), 3),
        "mass": round(mass, 3),
        "uniform": round(uniform, 3),
        "times_uniform": round(mass / uniform, 2),
    }
