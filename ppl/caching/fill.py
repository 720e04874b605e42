"""Encode every medium once and keep its features: Lightning's prediction loop, with a vision tower and nothing else.

Axes: f frames and tiles | S side of the resized square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from lightning import LightningModule
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader

from ppl.batches import KeptFeatures
from ppl.caching.media import Loaded, Media
from ppl.modules.feature_cache import FeatureCache
from ppl.modules.feature_storage import FeatureFolder
from ppl.modules.video_llm import VideoLLM


class FillModule(LightningModule):
    """Sends media that are not kept yet through the vision tower, whose output the model's cache keeps.

    Args:
        model: With a folder to keep features in, and a frozen vision tower. Its language model is taken out.
        media: What to encode, each medium once.
        batch_size: Media that are encoded together.
        num_workers: Processes that decode.
    """

    def __init__(self, model: VideoLLM, media: Sequence[Media], batch_size: int, num_workers: int) -> None:
        super().__init__()
        assert model.cache is not None, "checked where the recipe is read"
        model.cache = FeatureCache(replace(model.cache.caching, memory_gib=0.0))  # no medium comes again
        assert model.cache.folder is not None, "a cache has memory or a folder"
        self.folder: FeatureFolder = model.cache.folder
        self.model = model
        self.media = media
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.num_written = self.num_kept = self.bytes_written = 0
        self.problems: list[str] = []
        model.backbone.hf.model.language_model = nn.Identity()
        model.backbone.hf.lm_head = nn.Identity()

    def predict_dataloader(self) -> DataLoader[Loaded]:
        """Load media by and by; by now the trainer has settled the weights' precision, which is part of each key."""
        with self.trainer.precision_plugin.forward_context():
            is_kept = partial(_is_kept, self.folder, self.model.tower_identity())
        for media in self.media:
            media.kept = KeptFeatures(str(self.folder.folder), is_kept)
        return DataLoader(
            ConcatDataset(self.media),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=_as_they_are,
        )

    def predict_step(self, batch: list[Loaded], batch_idx: int) -> int:
        """Encode a batch and keep it; returns how many of its media there were to encode."""
        del batch_idx
        self.problems += [loaded.problem for loaded in batch if loaded.problem]
        self.num_kept += sum(loaded.frames is None and not loaded.problem for loaded in batch)
        todo = {loaded.info.key: loaded for loaded in batch if loaded.frames is not None}  # a content once
        self.num_kept += sum(loaded.frames is not None for loaded in batch) - len(todo)
        if not todo:
            return 0
        files = [self.folder.file(self.model.cache_key(loaded.info)) for loaded in todo.values()]
        there = [file.exists() for file in files]
        frames = torch.cat([loaded.frames for loaded in todo.values() if loaded.frames is not None])
        self.model.encode(frames.to(self.device), [loaded.info for loaded in todo.values()])
        for file, was_there in zip(files, there, strict=True):
            if was_there:
                self.num_kept += 1
            elif file.exists():  # not so where values overflow, which the cache counts
                self.num_written += 1
                self.bytes_written += file.stat().st_size
        return len(todo)


def _is_kept(folder: FeatureFolder, tower: str, key: str) -> bool:
    return folder.file(f"{tower}|{key}").exists()


def _as_they_are(batch: list[Loaded]) -> list[Loaded]:
    return batch
