import json

import numpy as np
import pytest
import torch

from ppl.batches import ContrastiveBatch, MediumInfo
from ppl.callbacks.kept_batch import KeptBatch, batch_ids, read_batch, write_batch
from tests.modules.tiny import guided_model, image, make_batch, video


def assert_same(got, expected):
    assert type(got) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        for name, value in expected.items():
            assert_same(got[name], value)
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    else:
        assert got == expected


def batches():
    rows = (
        ([video(4, "clip")], "what colour ?", "red"),
        ([image(40, 90)], "what is this ?", "a ring"),
        ([], "é ?", "no"),
    )
    pairs = ContrastiveBatch(
        kind="image",
        pixel_values=torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        prompt_ids=torch.arange(6).view(2, 3),
        positives=torch.eye(2).bool(),
        regions=None,
        categories=["", "dog"],
    )
    shared = torch.arange(4.0)
    nested = {"chosen": {"ids": ["a"], "x": shared[:2]}, "rejected": [shared[1:3], (1, None, 2.5)], "empty": shared[:0]}
    return {
        "questions": make_batch(guided_model(), *rows),
        "text only": make_batch(guided_model(), rows[-1]),
        "pairs": pairs,
        "nested": nested,
    }


@pytest.mark.parametrize("kind", ["questions", "text only", "pairs", "nested"])
def test_a_batch_comes_back(kind, tmp_path):
    batch = batches()[kind]
    write_batch(tmp_path / "kept", KeptBatch(batch, 7, {"step": 3, "loss": "nan"}))
    kept = read_batch(tmp_path / "kept")
    assert_same(kept.batch, batch)
    assert kept.seed == 7
    assert kept.notes == {"step": 3, "loss": "nan"}
    if kind == "questions":
        assert isinstance(kept.batch["media"][0], MediumInfo)


def test_a_value_that_cannot_be_written_is_told_when_read(tmp_path):
    write_batch(tmp_path, KeptBatch({"x": torch.ones(1), "y": np.float32}, 0, {}))
    assert json.loads((tmp_path / "batch.json").read_text())["batch"]["dict"]["x"] == {"tensor": "batch.x"}
    with pytest.raises(ValueError, match=r"got <class 'numpy.float32'> in a kept batch, expected tensors, plain"):
        read_batch(tmp_path)


def test_a_foreign_batch_calls_nothing_else(tmp_path):
    write_batch(tmp_path, KeptBatch({"x": torch.ones(1)}, 0, {}))
    foreign = {"seed": 0, "notes": {}, "batch": {"class": "dataclass", "fields": {"dict": {}}}}
    (tmp_path / "batch.json").write_text(json.dumps(foreign))
    with pytest.raises(ValueError, match=r"got the class dataclass in a kept batch, expected .* MediumInfo"):
        read_batch(tmp_path)


def test_a_folder_without_a_batch(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no batch.json; expected a folder that a run wrote"):
        read_batch(tmp_path)


def test_ids():
    assert batch_ids({"ids": ["a", "b"]}) == ["a", "b"]
    assert batch_ids({"prompts": ["a"]}) == batch_ids(torch.ones(2)) == []
