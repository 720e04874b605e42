import json
from unittest.mock import Mock

import pytest
from lightning import LightningModule, Trainer

from ppl.callbacks.prediction_writer import PredictionWriter


def trainer(folder, world_size=1, global_rank=0):
    """What the callback reads of a trainer."""
    return Mock(spec=Trainer, default_root_dir=str(folder), world_size=world_size, global_rank=global_rank)


def row(number, prediction="red"):
    return {"id": str(number), "prompt": "what ?", "prediction": prediction, "answer": "red", "category": "colour"}


def write(writer, run, *batches):
    writer.on_predict_start(run, LightningModule())
    for index, rows in enumerate(batches):
        writer.write_on_batch_end(run, LightningModule(), rows, None, {}, index, 0)


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_one_line_a_row_in_order(tmp_path):
    write(PredictionWriter(), trainer(tmp_path), [row(0), row(1, "ein Ring — größer\nals 1")], [row(2)])
    assert read(tmp_path / "predictions.jsonl") == [row(0), row(1, "ein Ring — größer\nals 1"), row(2)]
    assert "größer" in (tmp_path / "predictions.jsonl").read_text(encoding="utf-8")


def test_a_second_run_starts_an_empty_file(tmp_path):
    for _ in range(2):
        write(PredictionWriter(), trainer(tmp_path), [row(0)])
    assert len(read(tmp_path / "predictions.jsonl")) == 1


@pytest.mark.parametrize("rank", [0, 3])
def test_processes_do_not_share_a_file(tmp_path, rank):
    output = tmp_path / "new" / "answers.jsonl"
    write(PredictionWriter(str(output)), trainer(tmp_path, world_size=4, global_rank=rank), [row(rank)])
    assert read(tmp_path / "new" / f"answers.{rank}.jsonl") == [row(rank)]
    assert not output.exists()


def test_it_writes_after_each_batch():
    """A run that is cut short keeps what it has answered."""
    assert PredictionWriter().interval.on_batch
    assert not PredictionWriter().interval.on_epoch
