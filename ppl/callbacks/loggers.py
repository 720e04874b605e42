"""Where a run's numbers go: TensorBoard and CSV in the run's folder, and what the recipe adds."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers import WandbLogger as LightningWandb

from ppl.extras import missing


def run_loggers(own: Logger | Iterable[Logger] | bool | None, folder: str, subcommand: str) -> list[Logger]:
    """The run's loggers, TensorBoard first: its folder is where Lightning saves ``config.yaml``.

    That is the run's folder itself for ``fit``, and one of its own in it for others, whose recipe would otherwise take
    the place of the one to train from. CSV keeps one folder a start, for it would write over the one before.

    Args:
        own: The recipe's ``trainer.logger``: further loggers, or others in place of the same kind; false: none at all.
        folder: The run's.
        subcommand: ``fit``, ``validate``, ``test`` or ``predict``.
    """
    if own is False:
        return []
    added = [] if own is None or own is True else [own] if isinstance(own, Logger) else list(own)
    version = "" if subcommand == "fit" else subcommand
    defaults = [TensorBoardLogger(folder, name="", version=version), CSVLogger(folder, name="csv")]
    return [*(each for each in defaults if not any(isinstance(other, type(each)) for other in added)), *added]


class WandbLogger(LightningWandb):
    """Lightning's logger of Weights & Biases, offline where ``WANDB_MODE=offline`` is set.

    Args:
        project: Project of the run.
        name: Name of the run; null: W&B makes one up.
        save_dir: Folder of W&B's own files.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    def __init__(self, project: str = "ppl", name: str | None = None, save_dir: str = "runs") -> None:
        if find_spec("wandb") is None:
            raise missing("wandb", "wandb", "a logger of W&B", ", or leave recipes/overlays/wandb.yaml out")
        super().__init__(name=name, save_dir=save_dir, project=project)
