"""From command-line options to a session: load the checkpoint, open the medium."""

from __future__ import annotations

import argparse
from dataclasses import replace

from ppl.checkpoints import load
from ppl.datamodules.processing import Processor
from ppl.modules.feature_cache import Caching, FeatureCache
from ppl.modules.tuning import TuningModule
from ppl.serving.session import ChatSession


def open_session(options: argparse.Namespace) -> ChatSession:
    """Load ``options.checkpoint`` and encode ``options.media`` as in training, unless told otherwise."""
    module = load(options.checkpoint)
    if options.cache is not None:
        _keep_features(module, options.cache)
    conversation = module.conversation | ({"num_frames": options.num_frames} if options.num_frames else {})
    return ChatSession(
        module.model, Processor(module.input_spec, **conversation), options.media, options.start, options.end
    )


def _keep_features(module: TuningModule, folder: str) -> None:
    """Share a folder with runs whose tower is the same, in the precision that the checkpoint's run kept features in."""
    trained_with = module.hparams.get("cache")
    caching = Caching(folder=folder) if trained_with is None else Caching(**trained_with)
    module.model.backbone.vision_tower.requires_grad_(requires_grad=False)  # whatever trained it is over
    module.model.cache = FeatureCache(replace(caching, memory_gib=0.0, folder=folder))
