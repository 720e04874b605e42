"""Let a run go on from a checkpoint that was written between two epochs."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer


class ExactResume(Callback):
    """Have Lightning take a checkpoint written between epochs for one written after the last batch before it.

    What Lightning 2.6 makes of its counters of epochs and batches depends on where in its loop a checkpoint was
    written. Of one written as an epoch ends (``ModelCheckpoint``'s default), after the run's end or as an epoch begins,
    it goes on wrongly if ``max_steps`` ends the run: it trains on one more batch as part of the epoch that is over, or
    on none of the next epoch's, or, where ``max_steps`` ended the run within an epoch, leaves out the rest of that
    epoch. One written after a batch it reads rightly, the last of an epoch too.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Turn the counters back to the end of the last batch; Lightning restores them after this."""
        del trainer, pl_module
        loop = checkpoint["loops"]["fit_loop"]
        epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
        if not 0 < epochs["total"]["started"] == epochs["total"]["processed"]:  # within an epoch, or before the first
            return
        for since in ("total", "current"):
            epoch = epochs[since]
            epoch["ready"] = epoch["started"]
            epoch["processed"] = epoch["completed"] = epoch["started"] - 1
            batches[since]["completed"] = batches[since]["processed"] - 1
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1  # counted again when the batch is completed
