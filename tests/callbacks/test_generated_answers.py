from unittest.mock import Mock

import pytest
from lightning import LightningDataModule, LightningModule
from torch.utils.data import DataLoader

from ppl.callbacks.generated_answers import GeneratedAnswers
from tests.quiet import quiet_trainer

ROWS = [
    [("Red.", "red"), ("red , and there is a ring", "red")],
    [("blue", "red"), ("", "red")],
    [("never asked", "red")],
]


class Model(LightningModule):
    def validation_step(self, batch, batch_idx):
        pass

    def predict_step(self, batch, batch_idx):
        return [{"prediction": said, "answer": answer} for said, answer in batch]


class Data(LightningDataModule):
    def val_dataloader(self):
        return DataLoader([0])

    def predict_dataloader(self):
        return DataLoader(ROWS, batch_size=None, collate_fn=lambda rows: rows)


def test_words_right_and_exact_by_hand(tmp_path):
    trainer = quiet_trainer(tmp_path, GeneratedAnswers(num_batches=2))
    trainer.validate(Model(), Data(), verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    # 1, 6, 1 and 0 words; the first two begin with the answer, the first is no more than it
    expected = {"val/answers/words": 2.0, "val/answers/right": 0.5, "val/answers/exact": 0.25}
    assert metrics == pytest.approx(expected)


def test_nothing_is_asked_in_the_check_before_training(tmp_path):
    trainer = quiet_trainer(tmp_path)
    trainer.sanity_checking, model = True, Mock()
    GeneratedAnswers().on_validation_epoch_end(trainer, model)
    assert model.mock_calls == []
