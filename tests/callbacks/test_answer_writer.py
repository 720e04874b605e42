import json
from unittest.mock import Mock

import torch
from lightning import LightningModule, Trainer

from ppl.batches import MediumInfo
from ppl.callbacks.answer_writer import AnswerWriter


def trainer(folder, world_size=1, global_rank=0):
    return Mock(spec=Trainer, default_root_dir=str(folder), world_size=world_size, global_rank=global_rank)


def medium(sample, key):
    return MediumInfo(sample, "video", 4, (48, 48), key)


def write(run, outputs, batch):
    writer = AnswerWriter()
    writer.on_test_start(run, LightningModule())
    writer.on_test_batch_end(run, LightningModule(), outputs, batch, 0)
    return [json.loads(line) for line in writer.path(run).read_text().splitlines()]


def test_a_line_names_the_first_medium_or_else_the_row(tmp_path):
    media = [medium(0, "clip a"), medium(0, "clip b"), medium(2, "")]
    batch = {"ids": ["x", "y", "z"], "categories": ["colour", "", "shape"], "media": media}
    rows = write(trainer(tmp_path), {"correct": torch.tensor([True, False, True])}, batch)
    assert rows == [
        {"id": "x", "video": "clip a", "category": "colour", "correct": True},
        {"id": "y", "video": "y", "category": "", "correct": False},
        {"id": "z", "video": "z", "category": "shape", "correct": True},
    ]


def test_processes_do_not_share_a_file_and_a_second_run_starts_an_empty_one(tmp_path):
    batch = {"ids": ["x"], "categories": [""], "media": []}
    for _ in range(2):
        assert len(write(trainer(tmp_path, 2, 1), {"correct": torch.tensor([True])}, batch)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["answers.1.jsonl"]


def test_a_module_that_judges_no_answers_writes_none(tmp_path):
    assert write(trainer(tmp_path), None, {"ids": ["x"], "categories": [""], "media": []}) == []
