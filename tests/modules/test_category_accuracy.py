import pytest
import torch

from ppl.modules.category_accuracy import CategoryAccuracy


def test_shares_by_hand():
    accuracy = CategoryAccuracy()
    accuracy.update(["colour", "shape", "colour"], torch.tensor([True, False, False]))
    accuracy.update(["colour", ""], torch.tensor([True, True]))
    shares = accuracy.compute()
    assert shares == {"": 1.0, "colour": pytest.approx(2 / 3), "shape": 0.0, "mean": pytest.approx((1 + 2 / 3) / 3)}


def test_computing_starts_over():
    accuracy = CategoryAccuracy()
    accuracy.update(["a"], torch.tensor([False]))
    accuracy.compute()
    assert accuracy.compute() == {}
    accuracy.update(["a"], torch.tensor([True]))
    assert accuracy.compute() == {"a": 1.0, "mean": 1.0}


def test_categories_and_answers_must_pair_up():
    with pytest.raises(ValueError, match="zip"):
        CategoryAccuracy().update(["a"], torch.tensor([True, False]))


def test_means_of_marks():
    accuracy = CategoryAccuracy()
    accuracy.update(["a", "b", "a"], torch.tensor([0.5, 1.0, 0.25]))
    accuracy.update([], torch.tensor([]))
    assert accuracy.compute() == {"a": 0.375, "b": 1.0, "mean": 0.6875}
