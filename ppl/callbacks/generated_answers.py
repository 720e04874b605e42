"""Let a model answer held-out questions at each validation, and measure how long and how right the answers are."""

from __future__ import annotations

from typing import Any

import torch
from lightning import Callback, Trainer


class GeneratedAnswers(Callback):
    """Log ``val/answers/words``, ``…/right`` and ``…/exact`` of the data module's ``predict`` split.

    Right is an answer that begins with the reference answer's words, exact one that has no others. Case, commas and
    full stops do not count. Questions without a reference answer count for their words only.

    Args:
        num_batches: Batches to answer, the first ones; each process answers them all.
    """

    def __init__(self, num_batches: int = 8) -> None:
        self.num_batches = num_batches

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ANN401  a TuningModule
        """Answer, and log; not in the check before training."""
        if trainer.sanity_checking:
            return
        data: Any = getattr(trainer, "datamodule", None)
        data.setup("predict")
        lengths, right, exact = [], [], []
        for number, batch in enumerate(data.predict_dataloader()):
            if number == self.num_batches:
                break
            with torch.no_grad(), trainer.precision_plugin.predict_step_context():
                rows = pl_module.predict_step(trainer.strategy.batch_to_device(batch), number)
            for row in rows:
                said, wanted = words(row["prediction"]), words(row["answer"])
                lengths.append(len(said))
                right += [said[: len(wanted)] == wanted] if wanted else []
                exact += [said == wanted] if wanted else []
        found = {"words": lengths, "right": right, "exact": exact}
        means = {f"val/answers/{name}": sum(values) / len(values) for name, values in found.items() if values}
        pl_module.log_dict(means, rank_zero_only=True, batch_size=len(lengths))


def words(text: str) -> list[str]:
    """A text's words, in lower case, without commas and full stops."""
    return text.lower().replace(",", " ").replace(".", " ").split()
