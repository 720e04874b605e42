"""Alignment data of the synthetic world: frames, questions about one object in each, and all true matches.

Axes: n frames and questions | h w patch rows, columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from ppl.batches import ContrastiveBatch, InputSpec
from ppl.datamodules.even_shares import EvenShares, WithBlanks
from ppl.datamodules.synthetic.questions import preamble
from ppl.datamodules.synthetic.world import Scene, Thing, object_mask, random_scene, render

NamedBy = Literal["shape", "colour", "both", "background"]
_HELD_OUT_SEED = 3_000_017
_NUM_FRAMES = 8
_LONGEST_PREAMBLE = 60
"""With the longest question and the start and end tokens it fits into CLIP's 77 positions."""


@dataclass(frozen=True)
class NamingMix:
    """How questions name their object, as relative weights."""

    shape: float = 0.60
    colour: float = 0.10
    both: float = 0.22
    background: float = 0.08


class FrameQuestions(Dataset[ContrastiveBatch]):
    """Whole batches: n frames, a question about one object of each, and which frames each question is true of.

    Training frames hold one to three objects; held-out frames are cut from the videos of the instruction data.
    """

    def __init__(
        self,
        inputs: InputSpec,
        seed: int,
        num_batches: int,
        batch_size: int,
        mix: NamingMix,
        *,
        held_out: bool,
        preamble_words: float = 0.0,
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
        self.preamble_words = preamble_words
        self.grid = inputs.grid_size

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, index: int) -> ContrastiveBatch:
        if not 0 <= index < self.num_batches:
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, index))
        frames = [self._frame(rng) for _ in range(self.batch_size)]
        queries = [draw_query(scene, time, self.mix, rng) for scene, time in frames]
        positives = [[query.is_true_of(scene, time) for query in queries] for scene, time in frames]
        regions = [q.region(scene, time, self.grid) for q, (scene, time) in zip(queries, frames, strict=True)]
        return ContrastiveBatch(
            kind="video",
            pixel_values=torch.from_numpy(np.stack([render(scene)[time] for scene, time in frames])),
            prompt_ids=self.tokenize([self._preamble(rng) + query.text for query in queries]),
            positives=torch.tensor(positives),
            regions=torch.from_numpy(np.stack(regions)),
            categories=[query.kind for query in queries],
        )

    def _preamble(self, rng: np.random.Generator) -> str:
        """Text before a question: usually short, sometimes long, as captions are."""
        if not self.preamble_words:
            return ""
        return preamble(min(int(rng.exponential(self.preamble_words)), _LONGEST_PREAMBLE), rng) + " "

    def _frame(self, rng: np.random.Generator) -> tuple[Scene, int]:
        if not self.held_out:
            return random_scene(rng, num_frames=1, num_objects=int(rng.integers(1, 4))), 0
        while True:
            scene = random_scene(rng, num_frames=_NUM_FRAMES)
            time = int(rng.integers(_NUM_FRAMES))
            if any(thing.visible(time) for thing in scene.objects):
                return scene, time


@dataclass(frozen=True)
class Query:
    """A question and what it names: an object by shape, colour or both, or the background (perhaps by colour)."""

    kind: NamedBy
    text: str
    shape: str | None = None
    colour: str | None = None

    def names(self, thing: Thing) -> bool:
        """Whether an object is the one asked about."""
        return self.kind != "background" and self.shape in (None, thing.shape) and self.colour in (None, thing.colour)

    def is_true_of(self, scene: Scene, time: int) -> bool:
        """Whether a frame shows what the question names."""
        if self.kind == "background":
            return self.colour in (None, scene.background)
        return any(thing.visible(time) and self.names(thing) for thing in scene.objects)

    def region(self, scene: Scene, time: int, grid: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
        """Patches of a frame that show it."""
        asked = [i for i, thing in enumerate(scene.objects) if self.kind == "background" or self.names(thing)]
        touched = np.zeros(grid, dtype=bool)
        for i in asked:
            touched |= object_mask(scene, i, grid)[time]
        return ~touched if self.kind == "background" else touched


def draw_query(scene: Scene, time: int, mix: NamingMix, rng: np.random.Generator) -> Query:
    """Ask about one visible object of a frame, or about its background."""
    kinds: list[NamedBy] = ["shape", "colour", "both", "background"]
    weights = asdict(mix)
    shares = np.array([weights[kind] for kind in kinds])
    kind = kinds[rng.choice(len(kinds), p=shares / shares.sum())]
    visible = [thing for thing in scene.objects if thing.visible(time)]
    thing = visible[rng.integers(len(visible))]
    if kind == "shape":
        return Query(kind, f"what colour is the {thing.shape} ?", shape=thing.shape)
    if kind == "colour":
        return Query(kind, f"what shape is the {thing.colour} object ?", colour=thing.colour)
    if kind == "background" and rng.random() < 0.5:
        return Query(kind, f"is there a {scene.background} background ?", colour=scene.background)
    if kind == "background":
        return Query(kind, "what colour is the background ?")
    wordings = ("which way does the {} move ?", "when does the {} appear ?", "is there a {} ?")
    return Query(kind, wordings[rng.integers(len(wordings))].format(thing.name), thing.shape, thing.colour)


class SyntheticContrastiveDataModule(LightningDataModule):
    """Frames of coloured shapes with questions that name one of their objects; needs no file.

    Args:
        num_batches: Batches per training epoch.
        num_held_out_batches: Batches of the validation set, which is the same whatever the seed.
        batch_size: Frames, and as many questions, per batch.
        mix: How training questions name their object; held-out ones come in equal shares.
        preamble_words: Mean length of a neutral text before each question, exponentially distributed up to 60 words:
            positions of the text tower are then trained the less, the later they are, as CLIP's were.
        num_workers: Loader processes; 0 loads in the main process.
        seed: Of the training frames and questions.
    """

    def __init__(
        self,
        num_batches: int = 300,
        num_held_out_batches: int = 6,
        batch_size: int = 96,
        mix: NamingMix = NamingMix(),
        preamble_words: float = 0.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.num_batches = num_batches
        self.num_held_out_batches = num_held_out_batches
        self.batch_size = batch_size
        self.mix = mix
        self.preamble_words = preamble_words
        self.num_workers = num_workers
        self.seed = seed

    def train_dataloader(self) -> DataLoader[ContrastiveBatch]:
        """Batches in the order of their indices; their contents are random already."""
        return self._loader(self._questions(self.seed, self.num_batches, self.mix, held_out=False))

    def val_dataloader(self) -> DataLoader[ContrastiveBatch]:
        """Frames of unseen videos with up to six objects."""
        even = NamingMix(1.0, 1.0, 1.0, 1.0)
        questions = self._questions(_HELD_OUT_SEED, self.num_held_out_batches, even, held_out=True)
        assert self.trainer is not None
        if self.trainer.world_size == 1:
            return self._loader(questions)
        filled = WithBlanks(questions, _blank)
        return self._loader(filled, EvenShares(filled, self.trainer.world_size, self.trainer.global_rank))

    def _questions(self, seed: int, num_batches: int, mix: NamingMix, *, held_out: bool) -> FrameQuestions:
        inputs, size, words = self._inputs(), self.batch_size, self.preamble_words
        return FrameQuestions(inputs, seed, num_batches, size, mix, held_out=held_out, preamble_words=words)

    def _inputs(self) -> InputSpec:
        if self.trainer is None:
            msg = "got no trainer, expected to be run by one: the batches depend on the model's input_spec"
            raise RuntimeError(msg)
        inputs = self.trainer.lightning_module.input_spec
        assert isinstance(inputs, InputSpec)
        return inputs

    def _loader(
        self, data: Dataset[ContrastiveBatch], sampler: EvenShares | None = None
    ) -> DataLoader[ContrastiveBatch]:
        return DataLoader(data, batch_size=None, sampler=sampler, num_workers=self.num_workers)


def _blank(batch: ContrastiveBatch) -> ContrastiveBatch:
    """A batch that counts nowhere."""
    return {**batch, "positives": torch.zeros_like(batch["positives"])}
