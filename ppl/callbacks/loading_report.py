"""Say what loading costs: padding, and samples that could not be loaded."""

from __future__ import annotations

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from ppl.batches import CountingLoader


class LoadingReport(Callback):
    """Log the train loader's counts each step, and tell them in the end; of several processes, those of the first.

    ``data/padding`` is the share of positions that are padding, ``data/padding_unpacked`` what it would be if no row
    were packed, ``data/bad_samples`` how many samples were replaced.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Log the counts."""
        for name, value in self._metrics(trainer).items():
            pl_module.log(name, value, rank_zero_only=True, batch_size=1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the counts."""
        metrics = self._metrics(trainer)
        if "data/padding" in metrics:
            unpacked = metrics.get("data/padding_unpacked")
            without = "" if unpacked is None else f"; without packing {unpacked:.1%}"
            rank_zero_info(f"padding: {metrics['data/padding']:.1%} of all positions{without}")
        if metrics.get("data/bad_samples"):
            rank_zero_warn(
                f"{metrics['data/bad_samples']:.0f} samples could not be loaded and were replaced by others; they are "
                f"listed in {trainer.default_root_dir}/bad_samples.jsonl"
            )

    @staticmethod
    def _metrics(trainer: Trainer) -> dict[str, float]:
        loader = trainer.train_dataloader
        return loader.metrics() if isinstance(loader, CountingLoader) else {}
