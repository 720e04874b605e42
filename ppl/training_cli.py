"""Lightning's command line for `ppl`: recipes by path, overlays by ``-c``."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import set_parsing_settings
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.cli import LightningCLI

from ppl.callbacks.metrics_writer import MetricsWriter
from ppl.callbacks.prediction_writer import PredictionWriter
from ppl.callbacks.training_summary import TrainingSummary


def run_training_cli(args: Sequence[str] | None = None) -> LightningCLI:
    """Run ``fit``, ``validate``, ``test`` or ``predict``; ``args`` default to the command line.

    ``omegaconf+`` resolves ``${...}`` after the command line; the mode must be set on every subparser, or values given
    there would be silently ignored.

    Every run gets a progress bar, a table of what trains, and JSON lines of what it measures and predicts.
    """
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    mode = {"parser_mode": "omegaconf+"}
    return LightningCLI(
        LightningModule,
        LightningDataModule,
        trainer_class=Trainer,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        trainer_defaults={
            "callbacks": [RichProgressBar(leave=True), TrainingSummary(), MetricsWriter(), PredictionWriter()],
            "enable_model_summary": False,
            "log_every_n_steps": 10,
        },
        save_config_kwargs={"overwrite": True},
        parser_kwargs={**mode, **dict.fromkeys(("fit", "validate", "test", "predict"), mode)},
        args=None if args is None else list(args),
    )
