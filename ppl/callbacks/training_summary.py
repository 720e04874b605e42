"""Say at the start of a run what trains, what is frozen, and how many visual tokens a sample has."""

from __future__ import annotations

import math
from typing import Any

from lightning import Callback, Trainer
from rich.console import Console
from rich.table import Table

from ppl.batches import InputSpec


class TrainingSummary(Callback):
    """Print one table when fitting starts; replaces Lightning's summary of submodules."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ANN401  SFTModule or AlignModule
        """Print the parts, their sizes and learning rates, and the first sample's visual tokens."""
        if not trainer.is_global_zero:
            return
        table = Table(title=f"{type(pl_module).__name__}: what trains")
        table.add_column("part")
        table.add_column("parameters", justify="right")
        for column in ("learning rate", "weight decay", "warm-up"):
            table.add_column(column, justify="right")
        for part in pl_module.parts:
            size = f"{sum(map(math.prod, part.whole_shapes())):,}"
            if part.learning_rate is None:
                table.add_row(part.name, size, "frozen")
                continue
            decay = pl_module.weight_decay if part.weight_decay is None else part.weight_decay
            warmup = pl_module.warmup_ratio if part.warmup_ratio is None else part.warmup_ratio
            table.add_row(part.name, size, f"{part.learning_rate:g}", f"{decay:g}", f"{100 * warmup:g} %")
        tokens = self._visual_tokens(trainer, pl_module.input_spec)
        if tokens is not None:
            table.caption = tokens
        Console().print(table)

    @staticmethod
    def _visual_tokens(trainer: Trainer, inputs: InputSpec) -> str | None:
        loader = trainer.train_dataloader
        samples = getattr(loader, "dataset", None)  # a stream of pairs has none
        media = getattr(samples[0], "media", None) if samples is not None else None
        if media is None:
            return None
        counts = ", ".join(
            f"{inputs.num_visual_tokens(m)} for a {m.kind.replace('_', ' ')} of {m.num_frames} frame(s)" for m in media
        )
        return f"visual tokens of the first sample: {counts or 'none, it is text only'}"
