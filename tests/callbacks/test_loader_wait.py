from types import SimpleNamespace

import pytest
from lightning import Trainer
from torch.utils.data import DataLoader

from ppl.callbacks.loader_wait import LoaderWait
from tests.callbacks.regression import Regression, batch


class SlowBatches:
    def __init__(self, clock):
        self.clock = clock

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.clock.now += 2.0
        return batch(index)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_only_batches_are_waited_for(tmp_path, monkeypatch):
    """Three batches of 2 s each; a step and all else takes none of this clock's time."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("ppl.callbacks.loader_wait.time", SimpleNamespace(perf_counter=lambda: clock.now))
    wait = LoaderWait()
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, profiler=wait, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    wait.start("[Callback]Other.on_train_start")
    clock.now += 5.0
    wait.stop("[Callback]Other.on_train_start")
    trainer.fit(Regression(), DataLoader(SlowBatches(clock), batch_size=None))
    assert wait.seconds == 6.0
