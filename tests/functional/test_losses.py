import math

import pytest
import torch
from torch.nn import functional as F

from ppl.batches import IGNORE_INDEX
from ppl.functional.losses import next_token_loss


def test_uniform_scores_cost_the_logarithm_of_the_vocabulary():
    assert next_token_loss(torch.zeros(2, 3, 7), torch.ones(2, 3).long()).item() == pytest.approx(math.log(7))


def test_each_position_predicts_the_next():
    labels = torch.tensor([[0, 1, 2]])
    logits = torch.full((1, 3, 4), -30.0)
    logits[0, 0, 1] = logits[0, 1, 2] = 30.0  # position 0 says token 1, position 1 says token 2
    assert next_token_loss(logits, labels).item() == pytest.approx(0, abs=1e-6)


def test_agrees_with_cross_entropy_on_the_shifted_batch():
    logits, labels = torch.randn(3, 6, 11), torch.randint(0, 11, (3, 6))
    labels[torch.rand(3, 6) < 0.5] = IGNORE_INDEX
    labels[0, 1] = 4
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX)
    torch.testing.assert_close(next_token_loss(logits, labels), expected)


def test_positions_count_the_same_in_every_row():
    logits, labels = torch.randn(2, 4, 5), torch.tensor([[0, 1, 2, 3], [0, -100, -100, 4]])
    log_probs = logits.log_softmax(-1)
    terms = [log_probs[0, 0, 1], log_probs[0, 1, 2], log_probs[0, 2, 3], log_probs[1, 2, 4]]
    torch.testing.assert_close(next_token_loss(logits, labels), -torch.stack(terms).mean())


def test_smoothing_mixes_the_target_with_the_whole_vocabulary():
    """By hand: (1 - e) times the target's term plus e times the mean of all terms (Szegedy et al. 2016)."""
    logits, labels = torch.randn(1, 3, 5), torch.tensor([[0, 1, 2]])
    log_probs = logits.log_softmax(-1)
    terms = [0.9 * log_probs[0, i, i + 1] + 0.1 * log_probs[0, i].mean() for i in range(2)]
    torch.testing.assert_close(next_token_loss(logits, labels, 0.1), -torch.stack(terms).mean())


def test_half_precision_scores_are_summed_in_fp32():
    logits, labels = torch.randn(2, 50, 100).bfloat16(), torch.randint(0, 100, (2, 50))
    loss = next_token_loss(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), next_token_loss(logits.double(), labels), atol=1e-5, rtol=0)


def test_only_labelled_positions_get_a_gradient():
    logits = torch.randn(1, 4, 5, requires_grad=True)
    next_token_loss(logits, torch.tensor([[3, -100, 2, -100]])).backward()
    assert logits.grad.abs().sum(-1)[0].gt(0).tolist() == [False, True, False, False]


@pytest.mark.parametrize("labels", [[[-100, -100]], [[3, -100]], [[3]]])
def test_a_batch_without_labels_is_an_error(labels):
    labels = torch.tensor(labels)
    message = r"no label is left in a batch of \(b, l\)=.*check that max_length does not cut off the answers"
    with pytest.raises(ValueError, match=message):
        next_token_loss(torch.randn(*labels.shape, 5), labels)
