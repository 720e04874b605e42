"""What a policy's log-ratios refer to: the model it began as, in one of three forms.

Axes: r answers, the better ones of a batch first, then the worse | n visual tokens | d channels.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ppl.batches import PreferenceBatch
from ppl.modules.evaluation_mode import evaluating
from ppl.modules.logprob_store import LogProbStore, pair_keys
from ppl.modules.lora import lora_parameters
from ppl.modules.model_identity import model_identity
from ppl.modules.pair_scores import pair_scores, score_pairs
from ppl.modules.video_llm import VideoLLM

if TYPE_CHECKING:
    from ppl.modules.tuning import TuningModule


@runtime_checkable
class PairSource(Protocol):
    """A data module that hands out every pair in order."""

    def reference_loaders(self, rank: int, world_size: int) -> list[DataLoader]:
        """Loaders of one process's share of the pairs."""
        ...


class Reference(ABC):
    """The model that a run of preference tuning began with."""

    identity: str | None = None
    """A digest of that model, where the run's checkpoints do not hold it."""

    @abstractmethod
    def prepare(self, module: TuningModule) -> None:
        """Get ready while the module's weights are those of the run's beginning: before a checkpoint is read.

        Raises:
            ValueError: This form does not fit the run.
        """

    @abstractmethod
    def totals(self, module: TuningModule, batch: PreferenceBatch, visual: Float[Tensor, "n d"]) -> Float[Tensor, " r"]:
        """Summed log-probabilities of a batch's answers.

        Args:
            module: As it trains.
            batch: Of pairs.
            visual: Visual tokens that the module made of the pairs' media.
        """


class AdaptersOff(Reference):
    """The model without its adapters: no second copy. For runs in which nothing else trains."""

    def prepare(self, module: TuningModule) -> None:
        """Check that the model without adapters is the one that the run begins with, and stays it."""
        trained = [part.name for part in module.parts if part.learning_rate is not None]
        if trained != ["lora"]:
            msg = (
                f"got reference AdaptersOff in a run that trains {trained}, expected adapters and nothing else, or "
                "the reference would change: set model.lora and other learning_rates to 0, or take FrozenCopy"
            )
            raise ValueError(msg)
        named = module.model.named_parameters()
        if any(bool(p.any()) for name, p in named if ".lora_B." in name):
            msg = (
                "got reference AdaptersOff with adapters that change the model from the start, expected new ones: "
                "begin with --init_from, which merges those of a checkpoint, or take FrozenCopy"
            )
            raise ValueError(msg)

    def totals(self, module: TuningModule, batch: PreferenceBatch, visual: Float[Tensor, "n d"]) -> Float[Tensor, " r"]:
        """Run the model again, adapters switched off, on the same visual tokens."""
        with torch.no_grad(), evaluating(module.model), _without_adapters(module.model.backbone.language_model):
            return pair_scores(module.model, batch, visual.detach()).logprobs.total


class FrozenCopy(Reference):
    """A copy of what trains; what is frozen is shared with the policy, visual tokens too if all they come from is.

    It is not sharded, nor in checkpoints: a resumed run makes it again, and a digest tells whether it is the same.
    """

    def __init__(self) -> None:
        self._copy: VideoLLM | None = None
        self._shares_visual = True

    def prepare(self, module: TuningModule) -> None:
        """Copy the model."""
        strategy = module.trainer.strategy
        if isinstance(strategy, (FSDPStrategy, ModelParallelStrategy)):
            msg = (
                f"got reference FrozenCopy with {type(strategy).__name__}, which would have it whole in each process; "
                "expected ppl.modules.reference.Precomputed, or AdaptersOff with model.lora"
            )
            raise ValueError(msg)
        self.identity = model_identity(module.model, str(module.trainer.precision))
        trained = {part.name for part in module.parts if part.learning_rate is not None}
        self._shares_visual = trained <= {"language_model", "lora"}
        shared = {id(p): p for p in module.model.parameters() if not p.requires_grad}
        self._copy = copy.deepcopy(module.model, {**shared, id(module.model.cache): module.model.cache})
        module.trainer.strategy.precision_plugin.convert_module(self._copy)
        self._copy.requires_grad_(requires_grad=False)
        self._copy.eval()

    def totals(self, module: TuningModule, batch: PreferenceBatch, visual: Float[Tensor, "n d"]) -> Float[Tensor, " r"]:
        """Run the copy."""
        assert self._copy is not None, "prepare comes first"
        seen = visual.detach() if self._shares_visual else None
        with torch.no_grad():
            return score_pairs(self._copy.to(module.device), batch, seen).logprobs.total


class Precomputed(Reference):
    """Log-probabilities of all pairs, computed before the run's first step and kept on disk: no second model at all.

    A line of the folder holds for the weights, the pooling, the precision, the chat template and the pair it was
    computed with; runs may share the folder. A run that dies while computing goes on where it was.

    Args:
        folder: Where they are kept; null: ``reference`` in the run's folder.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self._store: LogProbStore | None = None

    def prepare(self, module: TuningModule) -> None:
        """Compute what is not yet on disk; processes share the work."""
        trainer = module.trainer
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, PairSource):
            msg = (
                f"got reference Precomputed with {type(data).__name__}, expected a data module of preference pairs "
                "(with reference_loaders), such as ppl.datamodules.preference.PreferenceDataModule"
            )
            raise ValueError(msg)
        self.identity = model_identity(module.model, str(trainer.precision))
        folder = Path(self.folder) if self.folder is not None else Path(trainer.default_root_dir) / "reference"
        self._store = LogProbStore(folder, self.identity, trainer.global_rank)
        self._store.read()
        home = next(module.model.parameters()).device
        trainer.strategy.precision_plugin.convert_module(module)  # as the strategy is about to
        module.model.to(trainer.strategy.root_device)
        with torch.no_grad(), trainer.strategy.precision_plugin.forward_context(), evaluating(module.model):
            for loader in data.reference_loaders(trainer.global_rank, trainer.world_size):
                self._compute(module, self._store, loader)
        module.model.to(home)
        self._store.read()

    def totals(self, module: TuningModule, batch: PreferenceBatch, visual: Float[Tensor, "n d"]) -> Float[Tensor, " r"]:
        """Look them up."""
        del visual
        assert self._store is not None, "prepare comes first"
        keys = pair_keys(batch)
        unknown = [name for name, key in zip(batch["ids"], keys, strict=True) if key not in self._store]
        if unknown:
            msg = (
                f"got the pairs {unknown}, whose reference was not computed before the run began; expected the data "
                "module's reference_loaders to hand out all that it trains and validates on"
            )
            raise ValueError(msg)
        return self._store.totals(keys).to(module.device, torch.float32)

    def _compute(self, module: TuningModule, store: LogProbStore, loader: DataLoader) -> None:
        quiet = module.trainer.progress_bar_callback is None or not module.trainer.is_global_zero
        for batch in track(loader, "log-probabilities of the reference", disable=quiet):
            keys = pair_keys(batch)
            if all(key in store for key in keys):
                continue
            moved = module.trainer.strategy.batch_to_device(batch)
            store.add(keys, score_pairs(module.model, moved).logprobs.total)


@contextmanager
def _without_adapters(language_model: nn.Module) -> Iterator[None]:
    """Switch adapters off; peft freezes them by that, and thaws them all when they are on again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in language_model.modules() if isinstance(module, BaseTunerLayer)]
    trained = [(parameter, parameter.requires_grad) for parameter in lora_parameters(language_model)]
    for layer in layers:
        layer.enable_adapters(enabled=False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(enabled=True)
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)
