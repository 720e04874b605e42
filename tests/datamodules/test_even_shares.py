import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.batches import BLANK, IGNORE_INDEX
from ppl.datamodules.even_shares import EvenShares, WithBlanks, blank_sample
from ppl.datamodules.processing import Sample


def sample(number):
    ids = torch.tensor([1, number])
    return Sample(ids, ids.clone(), torch.empty(0, 3, 4, 4, dtype=torch.uint8), [], "", str(number), "", "")


@settings(deadline=None, max_examples=25)
@given(size=st.integers(1, 20), processes=st.integers(1, 6))
def test_every_sample_counts_once_and_shares_are_even(size, processes):
    dataset = WithBlanks([sample(number) for number in range(size)], blank_sample)
    shares = [[dataset[i] for i in EvenShares(dataset, processes, rank)] for rank in range(processes)]
    assert {len(share) for share in shares} == {-(-size // processes)}
    counted = [each.id for share in shares for each in share if each.id != BLANK]
    assert sorted(map(int, counted)) == list(range(size))


def test_a_blank_has_no_labels():
    dataset = WithBlanks([sample(5)], blank_sample)
    assert (dataset[0].labels != IGNORE_INDEX).all()
    assert (dataset[1].labels == IGNORE_INDEX).all()
    assert torch.equal(dataset[1].input_ids, dataset[0].input_ids)
    assert len(dataset) == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_the_length_is_that_of_the_share(rank):
    shares = EvenShares(WithBlanks([sample(number) for number in range(5)], blank_sample), 2, rank)
    assert len(shares) == len(list(shares)) == 3
