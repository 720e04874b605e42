import pytest
import torch

from ppl.datamodules.bad_samples import BadSample, Quarantine
from ppl.datamodules.loading_report import LoadingCounts


def counted(*masks, quarantine=None):
    counts = LoadingCounts(quarantine)
    for mask in masks:
        counts.add({"attention_mask": torch.tensor(mask)})
    return counts.metrics()


def test_padding():
    assert counted() == {"data/padding": 0}
    assert counted([[1, 1, 1, 1], [1, 1, 0, 0]]) == {"data/padding": 0.25}
    assert counted([[1, 1, 1, 1], [1, 1, 0, 0]], [[1, 1]]) == {"data/padding": pytest.approx(2 / 10)}


def test_packed_rows_are_told_from_what_they_would_be_alone():
    """Samples of 2, 3 and 1 positions: in two rows of 5 four are padding, in three of 3 there are three."""
    packed = counted([[1, 1, 2, 2, 2], [1, 0, 0, 0, 0]])
    assert packed == {"data/padding": pytest.approx(4 / 10), "data/padding_unpacked": pytest.approx(3 / 9)}


def test_bad_samples():
    quarantine = Quarantine(None, 10, 0.5)
    quarantine.add([BadSample(3, "a", "f:1", "broken")], 0)
    assert counted([[1]], quarantine=quarantine) == {"data/padding": 0, "data/bad_samples": 1}
