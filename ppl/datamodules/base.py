"""The part every data module of conversations shares: the model's demands, and loaders that pad the right way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset

from ppl.batches import Batch, InputSpec
from ppl.datamodules.collate import Packing, PaddingSide, collate
from ppl.datamodules.even_shares import EvenShares, WithBlanks, blank_sample
from ppl.datamodules.processing import Sample
from ppl.datamodules.resumable import Loading, Place, ResumableLoader, resumable_loader
from ppl.datamodules.templates import TEMPLATES, TemplateName

Split = Literal["train", "val", "test", "predict"]
_SPLITS: dict[str | None, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("predict",),
    None: ("train", "val", "test", "predict"),
}


class ConversationDataModule(LightningDataModule, ABC):
    """Loads batches of conversations that fit the model at hand.

    Under a trainer the model's demands are read from ``trainer.lightning_module.input_spec``; elsewhere call ``attach``
    before ``setup``. Training, validation and test batches are right padded and carry labels; predict batches are left
    padded and end with the assistant prefix.

    Args:
        batch_size: Conversations per batch and device.
        num_workers: Loader processes; 0 loads in the main process.
        seed: Seeds the order of training samples.
        loading: How samples become training batches.
    """

    template: TemplateName
    """Chat template the language model was trained with."""

    def __init__(
        self,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
        loading: Loading = Loading(),  # noqa: B008  frozen
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.loading = loading
        self._inputs: InputSpec | None = None
        self._train_loader: ResumableLoader | None = None
        self._position: dict[str, Any] | None = None
        self._datasets: dict[Split, Dataset[Sample]] = {}

    @abstractmethod
    def dataset(self, split: Split) -> Dataset[Sample]:
        """Build one split; ``inputs`` is known by then.

        Predict samples are prompts: encode them with ``for_generation=True``.
        """

    def has_split(self, split: Split) -> bool:
        """Say whether there is such a split; training does without a missing ``val``."""
        return True

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """What ends an answer in the chat template, beside the tokenizer's end token."""
        return TEMPLATES[self.template].stop_strings

    def attach(self, inputs: InputSpec) -> None:
        """Tell the model's demands, for use without a trainer."""
        self._inputs = inputs

    @property
    def inputs(self) -> InputSpec:
        """The demands of the model that the batches are for."""
        if self._inputs is not None:
            return self._inputs
        if self.trainer is None:
            raise ValueError("got no model to fit batches to; run under a trainer, or call attach(input_spec) first")
        inputs = getattr(self.trainer.lightning_module, "input_spec", None)
        if not isinstance(inputs, InputSpec):
            name = type(self.trainer.lightning_module).__name__
            raise TypeError(f"{name}.input_spec: got {inputs!r}, expected an InputSpec; add the property to {name}")
        return inputs

    def setup(self, stage: str | None = None) -> None:
        """Build the splits of a stage, all of them without one; only a missing ``val`` of ``fit`` is passed over."""
        for split in _SPLITS[stage]:
            may_lack = stage is None or (stage == "fit" and split == "val")
            if self.has_split(split) or not may_lack:
                self._datasets[split] = self.dataset(split)
            elif stage == "fit":  # Lightning takes a module without this method to have no validation
                self.val_dataloader = None  # pyright: ignore[reportAttributeAccessIssue]

    def train_dataloader(self) -> ResumableLoader | DataLoader[Sample]:
        """Load shuffled, right-padded samples; the same seed gives the same order, also to a run that goes on."""
        trainer = self.trainer
        if trainer is not None and getattr(trainer, "overfit_batches", 0) > 0:  # the same few again and again
            return self._loader("train", "right", self.loading.rows)
        place = Place() if trainer is None else _place(trainer)
        dataset, to_batch = self._split("train"), self._to_batch("right", self.loading.rows)
        loader = resumable_loader(dataset, to_batch, self.batch_size, self.num_workers, self.seed, self.loading, place)
        if self._position is not None:
            loader.load_state_dict(self._position)
        self._train_loader, self._position = loader, None
        return loader

    def state_dict(self) -> dict[str, Any]:
        """Where training is in its data; of each checkpoint.

        Lightning keeps the train loader's own state too, but drops it if the loader was built before it is read, which
        a schedule that asks for the number of steps sees to.
        """
        return {} if self._train_loader is None else {"train": self._train_loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Have training go on there."""
        self._position = state_dict.get("train")

    def val_dataloader(self) -> DataLoader[Sample]:
        """Load right-padded samples with labels."""
        return self._loader("val", "right")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Load right-padded samples with labels."""
        return self._loader("test", "right")

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Load left-padded prompts."""
        return self._loader("predict", "left")

    def _split(self, split: Split) -> Dataset[Sample]:
        if split not in self._datasets:
            stage = next(stage for stage, splits in _SPLITS.items() if split in splits)
            raise ValueError(f"got no {split} split yet; call setup({stage!r}) before asking for its loader")
        return self._datasets[split]

    def _to_batch(self, side: PaddingSide, packing: Packing | None = None) -> Callable[[list[Sample]], Batch]:
        return partial(collate, inputs=self.inputs, padding_side=side, packing=packing)

    def _blank(self, sample: Sample) -> Sample:
        """What fills up a process's share of a dataset, and counts nowhere."""
        return blank_sample(sample)

    def _loader(self, split: Split, side: PaddingSide, packing: Packing | None = None) -> DataLoader[Sample]:
        dataset, sampler = self._split(split), None
        place = Place() if self.trainer is None else _place(self.trainer)
        if split in ("val", "test") and place.world_size > 1:
            dataset = WithBlanks(dataset, self._blank)
            sampler = EvenShares(dataset, place.world_size, place.rank)
        return DataLoader(
            dataset,
            sampler=sampler,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            collate_fn=self._to_batch(side, packing),
        )


def _place(trainer: Trainer) -> Place:
    """Which share of the data is this process's; those that cut layers between them (tensor parallelism) share one."""
    shares = trainer.distributed_sampler_kwargs or {"rank": trainer.global_rank, "num_replicas": trainer.world_size}
    return Place(shares["rank"], shares["num_replicas"], trainer.default_root_dir)
