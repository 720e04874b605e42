"""A callback for runs that are to be killed: one line a step, and the end."""

import json
import os
import signal
from pathlib import Path

import torch
from lightning import Callback


class StepRecorder(Callback):
    """Append epoch, ids and loss, to the last bit, of each step to a file of each rank.

    Args:
        file: Where to write; the rank is appended to its name.
        kill_at: Batch, counted from the start of the run, in whose backward pass the process kills itself; -1: none.
        by: The signal it does so by.
    """

    def __init__(self, file: str, kill_at: int = -1, by: int = int(signal.SIGKILL)) -> None:
        self.by = by
        self.file = Path(file)
        self.kill_at = kill_at
        self.steps = 0

    def on_before_backward(self, trainer, pl_module, loss):
        if self.steps == self.kill_at:
            os.kill(os.getpid(), self.by)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps += 1
        bits = outputs["loss"].detach().view(torch.int32).item()
        with self.file.with_name(f"{self.file.name}_{trainer.global_rank}").open("a") as file:
            file.write(json.dumps([trainer.current_epoch, batch["ids"], bits]) + "\n")
