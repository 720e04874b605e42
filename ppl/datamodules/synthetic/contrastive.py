"""Alignment data of the synthetic world: frames, questions about one object in each, and all true matches.

Axes: n frames and questions | h w patch rows, columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from ppl.batches import ContrastiveBatch, InputSpec
from ppl.datamodules.synthetic.world import Scene, Thing, object_mask, random_scene, render

NamedBy = Literal["shape", "colour", "both"]
_HELD_OUT_SEED = 3_000_017
_NUM_FRAMES = 8


@dataclass(frozen=True)
class NamingMix:
    """How questions name their object, as relative weights."""

    shape: float = 0.65
    colour: float = 0.10
    both: float = 0.25


class FrameQuestions(Dataset[ContrastiveBatch]):
    """Whole batches: n frames, a question about one object of each, and which frames each question is true of.

    Training frames hold one to three objects; held-out frames are cut from the videos of the instruction data.
    """

    def __init__(
        self, inputs: InputSpec, seed: int, num_batches: int, batch_size: int, mix: NamingMix, *, held_out: bool
    ) -> None:
        if inputs.tokenize_prompts is None:
            msg = "got a model without a text tower, expected an aligner to train: use AlignModule"
            raise ValueError(msg)
        self.tokenize: Callable[[list[str]], torch.Tensor] = inputs.tokenize_prompts
        self.seed = seed
        self.num_batches = num_batches
        self.batch_size = batch_size
        self.mix = mix
        self.held_out = held_out
        self.grid = inputs.grid_size

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, index: int) -> ContrastiveBatch:
        if not 0 <= index < self.num_batches:
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, index))
        frames, visible, regions, texts, named, kinds = [], [], [], [], [], []
        for _ in range(self.batch_size):
            scene, time = self._frame(rng)
            shown = [i for i, thing in enumerate(scene.objects) if thing.visible(time)]
            asked = int(rng.choice(shown))
            kind, text, target = name_object(scene.objects[asked], self.mix, rng)
            frames.append(render(scene)[time])
            visible.append([scene.objects[i] for i in shown])
            regions.append(object_mask(scene, asked, self.grid)[time])
            texts.append(text)
            named.append(target)
            kinds.append(kind)
        positives = [[any(_matches(thing, target) for thing in things) for target in named] for things in visible]
        return ContrastiveBatch(
            pixel_values=torch.from_numpy(np.stack(frames)),
            prompt_ids=self.tokenize(texts),
            positives=torch.tensor(positives),
            regions=torch.from_numpy(np.stack(regions)),
            categories=kinds,
        )

    def _frame(self, rng: np.random.Generator) -> tuple[Scene, int]:
        if not self.held_out:
            return random_scene(rng, num_frames=1, num_objects=int(rng.integers(1, 4))), 0
        while True:
            scene = random_scene(rng, num_frames=_NUM_FRAMES)
            time = int(rng.integers(_NUM_FRAMES))
            if any(thing.visible(time) for thing in scene.objects):
                return scene, time


def name_object(
    thing: Thing, mix: NamingMix, rng: np.random.Generator
) -> tuple[NamedBy, str, tuple[str | None, str | None]]:
    """Word a question that names an object by shape, colour or both, and the (shape, colour) it is true of."""
    weights = asdict(mix)
    kinds: list[NamedBy] = ["shape", "colour", "both"]
    shares = np.array([weights[kind] for kind in kinds])
    kind = kinds[rng.choice(3, p=shares / shares.sum())]
    if kind == "shape":
        return kind, f"what colour is the {thing.shape} ?", (thing.shape, None)
    if kind == "colour":
        return kind, f"what shape is the {thing.colour} object ?", (None, thing.colour)
    wordings = ("which way does the {} move ?", "when does the {} appear ?", "is there a {} ?")
    return kind, wordings[rng.integers(len(wordings))].format(thing.name), (thing.shape, thing.colour)


def _matches(thing: Thing, target: tuple[str | None, str | None]) -> bool:
    shape, colour = target
    return shape in (None, thing.shape) and colour in (None, thing.colour)


class SyntheticContrastiveDataModule(LightningDataModule):
    """Frames of coloured shapes with questions that name one of their objects; needs no file.

    Args:
        num_batches: Batches per training epoch.
        num_held_out_batches: Batches of the validation set, which is the same whatever the seed.
        batch_size: Frames, and as many questions, per batch.
        mix: How training questions name their object; held-out ones come in equal shares.
        num_workers: Loader processes; 0 loads in the main process.
        seed: Of the training frames and questions.
    """

    def __init__(
        self,
        num_batches: int = 450,
        num_held_out_batches: int = 6,
        batch_size: int = 96,
        mix: NamingMix = NamingMix(),
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.num_batches = num_batches
        self.num_held_out_batches = num_held_out_batches
        self.batch_size = batch_size
        self.mix = mix
        self.num_workers = num_workers
        self.seed = seed

    def train_dataloader(self) -> DataLoader[ContrastiveBatch]:
        """Batches in the order of their indices; their contents are random already."""
        data = FrameQuestions(self._inputs(), self.seed, self.num_batches, self.batch_size, self.mix, held_out=False)
        return self._loader(data)

    def val_dataloader(self) -> DataLoader[ContrastiveBatch]:
        """Frames of unseen videos with up to six objects."""
        even = NamingMix(1, 1, 1)
        size = self.num_held_out_batches
        return self._loader(FrameQuestions(self._inputs(), _HELD_OUT_SEED, size, self.batch_size, even, held_out=True))

    def _inputs(self) -> InputSpec:
        if self.trainer is None:
            msg = "got no trainer, expected to be run by one: the batches depend on the model's input_spec"
            raise RuntimeError(msg)
        inputs = self.trainer.lightning_module.input_spec
        assert isinstance(inputs, InputSpec)
        return inputs

    def _loader(self, data: FrameQuestions) -> DataLoader[ContrastiveBatch]:
        return DataLoader(data, batch_size=None, num_workers=self.num_workers)
