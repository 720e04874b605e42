import json

import pytest
import torch
from torch.utils.data import Dataset

from ppl.datamodules.bad_samples import BadSample, Quarantine, Substitution
from ppl.datamodules.processing import Sample

NO_IDS, NO_FRAMES = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, 8, 8, dtype=torch.uint8)


class Numbers(Dataset):
    """Samples that only have an id, their number; some cannot be loaded."""

    def __init__(self, num, bad):
        self.num = num
        self.bad = bad

    def __getitem__(self, index):
        if index in self.bad:
            raise ValueError(f"{index} is bad")
        return Sample(NO_IDS, NO_IDS, NO_FRAMES, [], "", str(index), "", "")

    def set_epoch(self, epoch):
        self.epoch = epoch

    def kinds(self):
        return ["even" if index % 2 == 0 else "odd" for index in range(self.num)]

    def lengths(self):
        return [1] * self.num

    def name(self, index):
        return f"id {index}", f"data.jsonl:{index + 1}"


def load(num, bad, index):
    numbers = Numbers(num, bad)
    sample, failed = Substitution(numbers, numbers.kinds()).load(index)
    return int(sample.id), failed


def test_the_next_of_its_kind_takes_its_place():
    assert load(10, {}, 3) == (3, [])
    sample, bad = load(10, {3, 5}, 3)
    assert sample == 7
    assert bad == [
        BadSample(3, "id 3", "data.jsonl:4", "ValueError: 3 is bad"),
        BadSample(5, "id 5", "data.jsonl:6", "ValueError: 5 is bad"),
    ]
    assert load(10, {8}, 8)[0] == 0, "after the last comes the first"


def test_a_kind_of_which_nothing_loads_is_an_error():
    with pytest.raises(ValueError, match=r"got 5 samples of kind 'odd' in a row .* data.jsonl:4: ValueError: 3 is bad"):
        load(10, {1, 3, 5, 7, 9}, 3)
    with pytest.raises(ValueError, match="got 16 samples of kind 'even' in a row"):
        load(100, set(range(99)), 0)


def bad(index):
    return BadSample(index, f"id {index}", "here", "ValueError: so")


def test_each_bad_sample_is_written_once(tmp_path):
    quarantine = Quarantine(tmp_path / "run", 100, 0.1)
    for epoch in range(2):
        quarantine.add([bad(1), bad(2)], epoch)
        quarantine.add([bad(1)], epoch)
        quarantine.add([], epoch)
    other_rank = Quarantine(tmp_path / "run", 100, 0.1)
    other_rank.add([bad(2), bad(3)], 0)
    lines = [json.loads(line) for line in (tmp_path / "run" / "bad_samples.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3]
    assert lines[0] == {"number": 1, "id": "id 1", "origin": "here", "reason": "ValueError: so"}
    assert (quarantine.known, other_rank.known) == ({1, 2}, {2, 3})


def test_too_many_stop_the_run(tmp_path):
    quarantine = Quarantine(tmp_path, 20, 0.1)
    quarantine.add([bad(1), bad(2)], 0)
    quarantine.add([bad(3)], 1)  # in each epoch another process may meet them
    message = (
        r"got 3 bad samples of 20 in epoch 0, .* max_bad_share=0.1; mend .* all are in .*bad_samples.jsonl, the last"
    )
    quarantine = Quarantine(tmp_path, 20, 0.1)
    with pytest.raises(ValueError, match=message):
        quarantine.add([bad(1), bad(2), bad(3)], 0)


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Quarantine(None, 20, 0.1).add([bad(1)], 0)
    assert list(tmp_path.iterdir()) == []


class Growing(Numbers):
    """Sample i has i positions."""

    def __getitem__(self, index):
        return super().__getitem__(index)._replace(input_ids=torch.zeros(index, dtype=torch.int64))


def test_a_sample_longer_than_a_packed_row_is_bad():
    growing = Growing(10, {})
    sample, [bad] = Substitution(growing, growing.kinds(), row_length=8).load(9)
    assert sample.id == "1"
    assert bad.reason == (
        "ValueError: sample '9': got 9 positions for packed rows of 8, expected it to fit into one; "
        "raise row_length, or shorten the sample"
    )
    assert Substitution(growing, growing.kinds(), row_length=8).load(8)[0].id == "8"
