"""Build a recipe's model and data as ``ppl fit`` does, for a trainer that only encodes."""

from __future__ import annotations

import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from typing import NamedTuple

from jsonargparse import set_parsing_settings
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.cli import LightningCLI

from ppl.datamodules.base import ConversationDataModule
from ppl.misspelt_keys import misspelt_keys
from ppl.modules.feature_storage import FeatureFolder
from ppl.modules.tuning import TuningModule
from ppl.modules.video_llm import VideoLLM
from ppl.recipe_files import check_recipes


class Parts(NamedTuple):
    """What a recipe says about features."""

    model: VideoLLM
    data: ConversationDataModule
    trainer: Trainer
    folder: FeatureFolder


class _CacheCLI(LightningCLI):
    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        """Of the recipe's trainer, take what decides where the tower runs and in which precision."""
        del kwargs
        given = self.config_init["trainer"]
        return Trainer(
            accelerator=given.accelerator,
            devices=1,
            precision=given.precision,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=[RichProgressBar(leave=True)],
        )


def read_parts(words: Sequence[str]) -> Parts:
    """Parse ``-c`` files and overrides and instantiate them, seeded as a run is.

    Raises:
        FileNotFoundError: A recipe is not there.
        ValueError: A key or value is not accepted, with its file and path; there is nothing to keep features of, or
            no folder to keep them in.
    """
    check_recipes(words)
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            cli = _CacheCLI(
                LightningModule,
                LightningDataModule,
                trainer_class=Trainer,
                save_config_callback=None,
                subclass_mode_model=True,
                subclass_mode_data=True,
                seed_everything_default=0,
                auto_configure_optimizers=False,
                parser_kwargs={"parser_mode": "omegaconf+", "exit_on_error": False},
                args=list(words),
                run=False,
            )
    except ArgumentError as error:
        lines = misspelt_keys(["fit", *words], str(error)) or [f"{error}\n`ppl fit --help` shows what is accepted"]
        raise ValueError("\n".join(lines)) from error
    return _checked(cli)


def _checked(cli: LightningCLI) -> Parts:
    module, data = cli.model, cli.datamodule
    if not isinstance(module, TuningModule) or not isinstance(data, ConversationDataModule):
        msg = (
            f"got a recipe of {type(module).__name__} with {type(data).__name__}, expected tuning on conversations: "
            "only there is the vision tower frozen"
        )
        raise ValueError(msg)
    if any(p.requires_grad for p in module.model.backbone.vision_tower.parameters()):
        msg = (
            "got a vision tower that trains, whose features change with every step, expected a frozen one: set "
            "--model.learning_rates.vision_tower=null, or do without a cache"
        )
        raise ValueError(msg)
    cache = module.model.cache
    if cache is None or cache.folder is None:
        msg = (
            f"got a recipe that keeps features {'nowhere' if cache is None else 'in memory alone'}, expected a folder: "
            "add --model.cache.folder=FOLDER, here and for `ppl fit`"
        )
        raise ValueError(msg)
    data.attach(module.input_spec)
    return Parts(module.model, data, cli.trainer, cache.folder)
