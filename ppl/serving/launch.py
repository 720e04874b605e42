"""From command-line options to a model that answers: load the checkpoint, open the media."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Any

import torch

from ppl.checkpoints import load
from ppl.datamodules.processing import Processor
from ppl.modules.feature_cache import Caching, FeatureCache
from ppl.modules.tuning import TuningModule
from ppl.modules.video_llm import VideoLLM
from ppl.serving.session import ChatSession


@dataclass(frozen=True)
class Opened:
    """A model, and what reads media and renders conversations for it as in training."""

    model: VideoLLM
    processor: Processor
    name: str
    """Of the checkpoint."""


def open_model(
    checkpoint: str,
    *,
    base: str | None = None,
    device: str = "auto",
    num_frames: int | None = None,
    cache: str | None = None,
) -> Opened:
    """Load a checkpoint and put it on a device.

    Args:
        checkpoint: See `ppl.checkpoints.load`.
        base: See `ppl.checkpoints.load`.
        device: Of torch; ``auto``: the first GPU, if there is one.
        num_frames: Frames sampled from a video; None: as in training.
        cache: Folder to share features in with runs whose tower is the same; None: nowhere.

    Raises:
        ValueError: There is no such device, or see `ppl.checkpoints.load`.
    """
    place = _place(device)
    module = load(checkpoint, base).to(place)
    if cache is not None:
        _keep_features(module, cache)
    conversation: dict[str, Any] = {**module.conversation, **({"num_frames": num_frames} if num_frames else {})}
    return Opened(module.model, Processor(module.input_spec, **conversation), checkpoint)


def open_chosen(options: argparse.Namespace) -> Opened:
    """Load what the options of `ppl.commands.media_arguments.add_model_arguments` say; errors as `open_model`."""
    return open_model(
        options.checkpoint,
        base=options.base,
        device=options.device,
        num_frames=options.num_frames,
        cache=options.cache,
    )


def open_session(options: argparse.Namespace) -> ChatSession:
    """Load ``options.checkpoint`` and encode ``options.media`` as in training, unless told otherwise."""
    opened = open_chosen(options)
    return ChatSession(opened.model, opened.processor, options.media, options.start, options.end)


def _place(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        msg = (
            f"got device {device!r}, expected cpu, or cuda or cuda:1, … that is there ({str(error).partition('. ')[0]})"
        )
        raise ValueError(msg) from error


def _keep_features(module: TuningModule, folder: str) -> None:
    """Share a folder with runs whose tower is the same, in the precision that the checkpoint's run kept features in."""
    trained_with = module.hparams.get("cache")
    caching = Caching(folder=folder) if trained_with is None else Caching(**trained_with)
    module.model.backbone.vision_tower.requires_grad_(requires_grad=False)  # whatever trained it is over
    module.model.cache = FeatureCache(replace(caching, memory_gib=0.0, folder=folder))
