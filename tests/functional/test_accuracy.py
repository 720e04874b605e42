import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ppl.batches import IGNORE_INDEX
from ppl.functional.accuracy import answers_correct

_ = IGNORE_INDEX
VOCABULARY = 5


def logits_for(predictions):
    """Scores whose best entry at position i is the token predicted to come next."""
    return torch.nn.functional.one_hot(torch.tensor(predictions), VOCABULARY).float()


@pytest.mark.parametrize(
    ("labels", "predictions", "correct"),
    [
        ([_, _, 3, 2], [0, 3, 2, 0], True),
        ([_, _, 3, 2], [0, 3, 1, 0], False),  # the end is wrong
        ([_, _, 3, 2], [0, 1, 2, 0], False),  # the start is wrong
        ([_, 3, _, 2], [3, 4, 2, 4], True),  # what carries no label may be anything
        ([_, _, _, 1], [4, 4, 1, 4], True),
        ([4, _, 1, _], [0, 1, 0, 0], True),  # nothing comes before the first position: its label is never predicted
        ([4, _, _, _], [4, 4, 4, 4], False),  # and is not enough for an answer
        ([_, _, _, _], [1, 1, 1, 1], False),
    ],
)
def test_by_hand(labels, predictions, correct):
    assert answers_correct(logits_for([predictions]), torch.tensor([labels])).tolist() == [correct]


tokens = st.integers(0, VOCABULARY - 1)


@given(
    rows=st.integers(2, 7).flatmap(
        lambda length: st.lists(
            st.tuples(
                st.lists(st.one_of(st.just(_), tokens), min_size=length, max_size=length),
                st.lists(tokens, min_size=length, max_size=length),
            ),
            min_size=1,
            max_size=4,
        )
    )
)
def test_a_loop_agrees(rows):
    expected = []
    for labels, predictions in rows:
        answer = [(i, label) for i, label in enumerate(labels) if i > 0 and label != _]
        expected.append(len(answer) > 0 and all(predictions[i - 1] == label for i, label in answer))
    labels, predictions = (list(column) for column in zip(*rows, strict=True))
    assert answers_correct(logits_for(predictions), torch.tensor(labels)).tolist() == expected
