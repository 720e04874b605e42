"""Oracle: the whole logits, a log-softmax and a loop."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from ppl.batches import IGNORE_INDEX
from ppl.functional.logprobs import answer_logprobs


def by_loop(hidden, labels, head):
    totals, counts = [], []
    for row, wanted in zip(hidden, labels, strict=True):
        logprobs = head(row).log_softmax(dim=-1)
        found = [logprobs[at - 1, label] for at, label in enumerate(wanted.tolist()) if at and label != IGNORE_INDEX]
        totals.append(torch.stack(found).sum())
        counts.append(len(found))
    return torch.stack(totals), counts


@given(st.integers(1, 4), st.integers(2, 9), st.integers(1, 40), st.integers(0, 1000))
def test_as_a_loop_with_gradients(rows, length, chunk, seed):
    draw = torch.Generator().manual_seed(seed)
    head = torch.nn.Linear(5, 11).double()
    hidden = torch.randn(rows, length, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 11, (rows, length), generator=draw)
    labels[torch.rand(rows, length, generator=draw) < 0.5] = IGNORE_INDEX
    labels[:, -1] = 3
    expected, counts = by_loop(hidden, labels, head)
    gradients = torch.autograd.grad(expected.sum(), [hidden, head.weight])
    got = answer_logprobs(hidden, labels, head, chunk)
    assert got.num_tokens.tolist() == counts
    torch.testing.assert_close(got.total, expected)
    for one, other in zip(torch.autograd.grad(got.total.sum(), [hidden, head.weight]), gradients, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(answer_logprobs(hidden, labels, head, chunk).total, expected)


def test_the_head_sees_what_predicts_a_label_and_no_more_at_once():
    seen = []

    def head(states):
        seen.append(len(states))
        return states.new_zeros(len(states), 4)

    labels = torch.full((2, 100), IGNORE_INDEX)
    labels[0, 90:97], labels[1, 95:] = 1, 2  # 7 and 5
    with torch.no_grad():
        got = answer_logprobs(torch.randn(2, 100, 3), labels, head, chunk=5)
    assert seen == [5, 5, 2]
    torch.testing.assert_close(got.total, -torch.tensor([7.0, 5.0]) * torch.log(torch.tensor(4.0)))


def test_half_precision_is_summed_in_fp32():
    hidden, labels = torch.randn(1, 5, 3).bfloat16(), torch.tensor([[0, 1, 1, 1, 1]])
    assert answer_logprobs(hidden, labels, torch.nn.Linear(3, 4).bfloat16()).total.dtype == torch.float32


def test_an_answer_without_labels_is_refused():
    labels = torch.tensor([[0, 1], [1, IGNORE_INDEX]])
    with pytest.raises(ValueError, match="got 1 of 2 sequences without a label past their first position"):
        answer_logprobs(torch.randn(2, 2, 3), labels, torch.nn.Linear(3, 4))
