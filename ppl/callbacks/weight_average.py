"""An exponential moving average of the weights, by Lightning's own callback."""

from __future__ import annotations

import warnings
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy


class WeightAverage(EMAWeightAveraging):
    """Average the weights over training; validate with the average, and save it as the checkpoint's weights.

    Resuming goes on from the weights themselves, which the checkpoint also holds. The average is a second copy of the
    whole model, frozen parts included.

    Args:
        decay: What the average keeps of itself at each update.
        update_every_n_steps: Optimiser steps from one update to the next.
        update_starting_at_step: First step that is averaged; null: the first of the run.
        device: Where the average lives, such as ``cpu``; null: beside the model.
    """

    def __init__(
        self,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(
            device=device,
            decay=decay,
            update_every_n_steps=update_every_n_steps,
            update_starting_at_step=update_starting_at_step,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the average.

        Raises:
            ValueError: The strategy shards the model, of which no whole copy can be made; or what trains is so coarse
                that its average would stand still.
        """
        if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            msg = (
                f"got {type(trainer.strategy).__name__} with an average of the weights, expected a strategy that keeps "
                "the model whole (one device, or DDP); leave out recipes/overlays/ema.yaml, or the sharding overlay"
            )
            raise ValueError(msg)
        _check_precision(trainer, pl_module)
        with warnings.catch_warnings():  # of sharding in configure_model, which these strategies do not do
            warnings.filterwarnings(
                "ignore", message="You're using the WeightAveraging callback with a model that over"
            )
            super().setup(trainer, pl_module, stage)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on from it; what it leaves to its base, the model has already."""
        own = pl_module.state_dict()
        parts = {"state_dict", "current_model_state"} & checkpoint.keys()
        super().on_load_checkpoint(
            trainer, pl_module, {**checkpoint, **{part: {**own, **checkpoint[part]} for part in parts}}
        )


def _check_precision(trainer: Trainer, pl_module: LightningModule) -> None:
    """Refuse 16 bits: a step of a thousandth of the distance is rounded away, and the average stays at the start."""
    coarse = {str(p.dtype) for p in pl_module.parameters() if p.requires_grad and p.dtype.itemsize < 4}
    coarse |= {trainer.precision} & {"bf16-true", "16-true"}
    if coarse:
        msg = (
            f"got an average of weights that train in {', '.join(sorted(coarse))}, expected float32, as small steps of "
            "an average are rounded away: set the backbone's dtype: float32 with trainer.precision: "
            "bf16-mixed, or leave out recipes/overlays/ema.yaml"
        )
        raise ValueError(msg)
