"""The ways to pool that a model can be switched to."""

from __future__ import annotations

from pathlib import Path

from ppl.batches import MediumInfo
from ppl.datamodules.processing import Processor
from ppl.modules.poolers.base import Pooler
from ppl.modules.poolers.none import NoPooler
from ppl.modules.video_llm import VideoLLM
from ppl.serving.variants import read_pooler, with_pooler


def poolers_that_fit(model: VideoLLM, processor: Processor, folder: Path) -> dict[str, Pooler]:
    """Read the poolers of a folder of parts, and leave out those that do not fit the model's videos.

    Args:
        model: What they are for.
        processor: Says how many frames a video has.
        folder: Such as ``recipes/parts/poolers``.

    Returns:
        By the names of their files.
    """
    size = model.input_spec.image_size
    video = MediumInfo(0, "video", processor.num_frames, (size, size), "")
    whole = with_pooler(model, NoPooler()).num_visual_tokens(video)
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        pooler = read_pooler(path)
        try:
            tokens = with_pooler(model, pooler).num_visual_tokens(video)
        except ValueError:  # it wants relevance, or larger grids
            continue
        if tokens < whole or isinstance(pooler, NoPooler):
            found[path.stem] = pooler
    return found
