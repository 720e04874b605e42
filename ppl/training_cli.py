"""Lightning's command line for `ppl`: recipes by path, overlays by ``-c``."""

from __future__ import annotations

import sys
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from jsonargparse import set_parsing_settings
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.io import CheckpointIO

from ppl.callbacks.answer_writer import AnswerWriter
from ppl.callbacks.exact_resume import ExactResume
from ppl.callbacks.loader_wait import LoaderWait
from ppl.callbacks.loading_report import LoadingReport
from ppl.callbacks.loggers import run_loggers
from ppl.callbacks.loss_spikes import LossSpikes
from ppl.callbacks.metrics_writer import MetricsWriter
from ppl.callbacks.non_finite_steps import NonFiniteSteps
from ppl.callbacks.out_of_memory import OutOfMemory
from ppl.callbacks.prediction_writer import PredictionWriter
from ppl.callbacks.preemption import Preemption
from ppl.callbacks.progress_bar import ThroughputBar
from ppl.callbacks.row_writer import RowWriter
from ppl.callbacks.run_record import RunRecord
from ppl.callbacks.throughput import Throughput
from ppl.callbacks.training_summary import TrainingSummary
from ppl.misspelt_keys import misspelt_keys
from ppl.modules.gradient_check import GradientCheck
from ppl.modules.tuning import TuningModule
from ppl.recipe_files import check_recipes
from ppl.saving.checkpoint_io import VerifiedCheckpointIO
from ppl.saving.harmless import read_file
from ppl.starting_weights import start_from

_RECIPES = (
    "Values come from recipes, later ones over earlier ones, and from options, over all recipes; `ppl recipes` lists "
    "the recipes that come with ppl."
)
_EXAMPLES = {
    "fit": (
        "Train.",
        "ppl fit -c recipes/experiments/tiny_sft.yaml -c recipes/overlays/debug.yaml --trainer.max_steps=5",
    ),
    "validate": (
        "Measure loss and accuracy on the validation split.",
        "ppl validate -c runs/x/config.yaml --ckpt_path runs/x/checkpoints/last.ckpt",
    ),
    "test": (
        "Measure loss and accuracy on the test split, and write runs/x/answers.jsonl.",
        "ppl test -c runs/x/config.yaml --ckpt_path runs/x/checkpoints/last.ckpt",
    ),
    "predict": (
        "Answer the predict split, or a benchmark, whose answers `ppl score` scores.",
        "ppl predict -c recipes/eval/videomme.yaml --model=ppl.checkpoints.load --model.path=runs/x/last.ckpt",
    ),
}


def run_training_cli(args: Sequence[str] | None = None) -> LightningCLI:
    """Run ``fit``, ``validate``, ``test`` or ``predict``; ``args`` default to the command line.

    ``omegaconf+`` resolves ``${...}`` after the command line; the mode must be set on every subparser, or values given
    there would be silently ignored.

    Every run gets a progress bar, a table of what trains, and JSON lines of what it measures and predicts.

    What cannot be parsed ends the program with status 2 and says which key of which file it is.
    """
    words = list(sys.argv[1:] if args is None else args)
    try:
        check_recipes(words)
    except (ValueError, FileNotFoundError) as error:
        _misuse(words[0], [str(error)])
    try:
        return _run(args)
    except ArgumentError as error:
        lines = misspelt_keys(words, str(error)) or [
            f"{error}\n`ppl {words[0]} --help` shows what is accepted, with an example; `ppl recipes` lists recipes"
        ]
        _misuse(words[0], lines)


def _misuse(command: str, lines: Sequence[str]) -> NoReturn:
    sys.stderr.write("".join(f"ppl {command}: {line}\n" for line in lines))
    sys.exit(2)


class _RecipeCLI(LightningCLI):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is no argument of the model, the data or the trainer."""
        what = "checkpoint of another run whose weights this one begins with; see `ppl.starting_weights`"
        parser.add_argument("--init_from", type=str | None, default=None, help=what)

    def _parse_ckpt_path(self) -> None:
        """Say in words what Lightning, which reads the model's arguments out of it, would trace."""
        path = self.config[self.config.subcommand].get("ckpt_path") if self.config.get("subcommand") else None
        if path and Path(path).is_file():
            read_file(Path(path))
        super()._parse_ckpt_path()

    def instantiate_classes(self) -> None:
        """Let the model begin with other weights, unless ``--ckpt_path`` has all that is asked for."""
        super().instantiate_classes()
        config = self.config[str(self.subcommand)]
        if config.init_from is not None and not (self.subcommand in ("test", "predict") and config.get("ckpt_path")):
            if not isinstance(self.model, TuningModule):
                name = type(self.model).__name__
                msg = f"got init_from={config.init_from!r} with {name}, expected a model to tune: leave init_from out"
                raise TypeError(msg)
            start_from(self.model, config.init_from)

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        """Add what the recipe has none of its own of: a progress bar if it wants one, defaults, verified files."""
        config = self.config_init[str(self.subcommand)].trainer
        own = config.callbacks if isinstance(config.callbacks, list) else [config.callbacks] if config.callbacks else []
        if config.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in own):
            own = [*own, ThroughputBar()]
        folder = config.default_root_dir or "."
        kwargs["logger"] = run_loggers(config.logger, folder, str(self.subcommand)) or False
        kwargs["profiler"] = config.profiler or LoaderWait()
        chosen = {type(callback): callback for callback in own}
        defaults = [chosen.get(type(callback), callback) for callback in self.trainer_defaults["callbacks"]]
        self.trainer_defaults = {**self.trainer_defaults, "callbacks": defaults}
        kwargs["callbacks"] = [callback for callback in own if callback not in defaults]  # in the defaults' places
        plugins = config.plugins if isinstance(config.plugins, list) else [config.plugins] if config.plugins else []
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, VerifiedCheckpointIO()]
        return super().instantiate_trainer(**kwargs)


def _help(name: str) -> dict[str, str]:
    """The beginning of a subcommand's ``--help``; hundreds of options follow."""
    what, example = _EXAMPLES[name]
    usage = f"ppl {name} [-c RECIPE]... [--KEY=VALUE]..."
    return {"usage": usage, "description": f"{what} {_RECIPES} Example: {example}"}


def _run(args: Sequence[str] | None) -> LightningCLI:
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    options = {"parser_mode": "omegaconf+", "exit_on_error": False}
    return _RecipeCLI(
        LightningModule,
        LightningDataModule,
        trainer_class=Trainer,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        trainer_defaults={
            "callbacks": [
                TrainingSummary(),
                ExactResume(),
                GradientCheck(),
                LoadingReport(),
                Throughput(),
                MetricsWriter(),
                AnswerWriter(),
                PredictionWriter(),
                RowWriter(),
                OutOfMemory(),
                LossSpikes(),
                NonFiniteSteps(),  # after those that look at gradients, which it drops
                Preemption(),  # last: its checkpoint is of what the others have done
            ],
            "enable_model_summary": False,
            "log_every_n_steps": 10,
        },
        save_config_callback=RunRecord,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={
            **options,
            **{name: {**options, **_help(name)} for name in _EXAMPLES},
        },
        args=None if args is None else list(args),  # Lightning warns of arguments beside those of the command line
    )
