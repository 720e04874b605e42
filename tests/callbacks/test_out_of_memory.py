from unittest.mock import Mock

import pytest
import torch
from lightning import LightningModule, Trainer

from ppl.callbacks.out_of_memory import OutOfMemory, describe_batch, is_out_of_memory
from tests.callbacks.regression import Batches, Regression, batch
from tests.modules.pairs import pair_batch
from tests.modules.tiny import guided_model, image, make_batch, video
from tests.quiet import quiet_trainer

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA error: out of memory"),
    MemoryError(),
]


class Failing(Regression):
    def __init__(self, error, stage="training"):
        super().__init__()
        self.error, self.stage = error, stage

    def training_step(self, batch, batch_idx):
        if self.stage == "training" and batch_idx == 1:
            raise self.error
        return super().training_step(batch, batch_idx)

    def test_step(self, batch, batch_idx):
        raise self.error


def notes(folder, error, stage="training"):
    run = quiet_trainer(folder, OutOfMemory())
    with pytest.raises(type(error)) as raised:
        (run.fit if stage == "training" else run.test)(Failing(error, stage), Batches([batch(0), batch(1)]))
    return getattr(raised.value, "__notes__", [])


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:20])
def test_the_error_tells_what_the_step_held(error, tmp_path):
    (note,) = notes(tmp_path, error)
    assert "memory ran out in step 1 of rank 0, whose batch holds\n  x: (8, 3)\n  y: (8,)\n" in note
    assert "data.batch_size down and trainer.accumulate_grad_batches up" in note


def test_in_a_test_too(tmp_path):
    assert "whose batch holds" in notes(tmp_path, MemoryError(), "test")[0]


@pytest.mark.parametrize("error", [RuntimeError("a shape mismatch"), ValueError("out of memory")])
def test_other_errors_stay_as_they_are(error, tmp_path):
    assert not is_out_of_memory(error)
    assert notes(tmp_path, error) == []


def test_samples_with_their_tokens_and_frames():
    model = guided_model()
    rows = (
        ([], "what colour ?", "red"),
        ([video(4)], "what is this ?", "a ring"),
        ([image(40, 90), image(50, 50)], "same ?", "no"),
    )
    batch = make_batch(model, *rows)
    lines = describe_batch(batch, model.input_spec)
    placeholder = model.input_spec.tokenizer.convert_tokens_to_ids(model.input_spec.image_token)
    tokens = [int(mask.sum()) for mask in batch["attention_mask"]]
    visual = [int((ids == placeholder).sum()) for ids in batch["input_ids"]]
    assert visual[0] == 0 < min(visual[1:])
    expected = [
        f"  row {row}: {tokens[row]} tokens, {visual[row]} of them visual, {frames} frames and tiles of {media} media"
        for row, frames, media in ((0, 0, 0), (1, 4, 1), (2, sum(m.num_frames for m in batch["media"][1:]), 2))
    ]
    order = sorted(range(3), key=lambda row: -tokens[row])
    assert lines == [*(expected[row] for row in order), f"  padded to 3 x {max(tokens)} positions"]


def test_pairs_and_packed_rows():
    """Neither has a row for each sample: 2 pairs are 4 rows, and 2 packed samples are one."""
    model = guided_model()
    pairs = pair_batch(model, ([video(4)], "what colour ?", "red", "a long one"), ([], "so ?", "no", "yes it is"))
    tokens = pairs["attention_mask"].sum(1).tolist()
    lines = describe_batch(pairs, None)
    expected = [
        (tokens[row], f"  pair {row % 2}: {tokens[row]} tokens, {4 * (row % 2 == 0)} frames") for row in range(4)
    ]
    found = [line.partition(" and tiles")[0] for line in lines[:-1]]
    assert sorted(found) == sorted(line for _, line in expected)

    rows = make_batch(model, ([], "what colour ?", "red"), ([video(4)], "what is this ?", "a ring"))
    first, second = rows["attention_mask"].sum(1).tolist()
    packed = {**rows, "attention_mask": torch.tensor([[1] * first + [2] * second + [0]])}
    lines = describe_batch(packed, None)
    assert f"  row 0: {first} tokens, 0 frames and tiles of 0 media" in lines
    assert f"  row 1: {second} tokens, 4 frames and tiles of 1 media" in lines


def test_outside_of_a_batch():
    error = MemoryError()
    OutOfMemory().on_exception(Mock(spec=Trainer, global_step=3, global_rank=1), Mock(spec=LightningModule), error)
    assert error.__notes__[0].startswith("memory ran out outside of a batch, at step 3 of rank 1; make steps smaller")
