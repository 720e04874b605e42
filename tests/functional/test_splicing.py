import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.batches import IGNORE_INDEX
from ppl.functional.splicing import expand_placeholders, splice_visual_tokens

PLACEHOLDER = 9
texts = st.lists(st.sampled_from([1, 2, 3, PLACEHOLDER]), max_size=12)


def test_expands_by_hand():
    ids, labels = torch.tensor([1, PLACEHOLDER, 2, PLACEHOLDER, 3]), torch.tensor([-100, -100, -100, PLACEHOLDER, 3])
    ids, labels = expand_placeholders(ids, labels, [2, 3], PLACEHOLDER)
    assert ids.tolist() == [1, 9, 9, 2, 9, 9, 9, 3]
    assert labels.tolist() == [-100, -100, -100, -100, -100, -100, -100, 3]


@given(texts, st.data())
@settings(deadline=None, max_examples=80)
def test_expansion_then_removal_is_the_identity(text, data):
    counts = [data.draw(st.integers(1, 4)) for token in text if token == PLACEHOLDER]
    ids = torch.tensor(text, dtype=torch.int64)
    expanded, labels = expand_placeholders(ids, ids.clone(), counts, PLACEHOLDER)
    visual = expanded == PLACEHOLDER
    assert visual.sum() == sum(counts)
    assert torch.equal(expanded[~visual], ids[ids != PLACEHOLDER])
    assert torch.equal(labels[~visual], ids[ids != PLACEHOLDER])
    assert (labels[visual] == IGNORE_INDEX).all()
    # walking along the text again gives each medium back its run of placeholders
    left, right = iter(expanded.tolist()), iter(counts)
    for token in text:
        for _ in range(next(right) if token == PLACEHOLDER else 1):
            assert next(left) == token
    assert next(left, None) is None


def test_expansion_leaves_its_inputs_alone():
    ids, labels = torch.tensor([1, PLACEHOLDER]), torch.tensor([1, PLACEHOLDER])
    expand_placeholders(ids, labels, [3], PLACEHOLDER)
    assert ids.tolist() == labels.tolist() == [1, PLACEHOLDER]


def test_placeholders_and_media_must_match():
    ids = torch.tensor([1, PLACEHOLDER, 2])
    with pytest.raises(ValueError, match=r"placeholder\(s\)") as error:
        expand_placeholders(ids, ids, [4, 4], PLACEHOLDER)
    expected = "the text has 1 placeholder(s) but the sample holds 2 media: write one placeholder per medium"
    assert str(error.value) == expected


def test_a_medium_without_tokens_is_an_error():
    ids = torch.tensor([PLACEHOLDER, PLACEHOLDER])
    with pytest.raises(ValueError, match=r"counts=\[3, 0\] holds a medium without visual tokens"):
        expand_placeholders(ids, ids, [3, 0], PLACEHOLDER)


def test_splices_row_by_row():
    ids = torch.tensor([[1, 9, 9], [9, 2, 3]])
    embeds = torch.tensor([[[1.0], [0.0], [0.0]], [[0.0], [2.0], [3.0]]])
    spliced = splice_visual_tokens(embeds, ids, torch.tensor([[10.0], [20.0], [30.0]]), PLACEHOLDER)
    assert spliced.squeeze(-1).tolist() == [[1, 10, 20], [30, 2, 3]]
    assert embeds.squeeze(-1).tolist() == [[1, 0, 0], [0, 2, 3]]


@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 2**16))
@settings(deadline=None, max_examples=60)
def test_text_embeddings_are_unchanged_and_visual_tokens_come_back_in_order(rows, length, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(7, PLACEHOLDER + 1, (rows, length), generator=generator)
    visual = ids == PLACEHOLDER
    embeds = torch.randn(rows, length, 3, generator=generator)
    tokens = torch.randn(int(visual.sum()), 3, generator=generator)
    spliced = splice_visual_tokens(embeds, ids, tokens, PLACEHOLDER)
    assert torch.equal(spliced[~visual], embeds[~visual])
    assert torch.equal(spliced[visual], tokens)


def test_casts_to_the_embeddings_and_gradients_reach_both():
    ids = torch.tensor([[1, 9, 9, 2]])
    embeds = torch.randn(1, 4, 3, dtype=torch.bfloat16, requires_grad=True)
    tokens = torch.randn(2, 3, requires_grad=True)
    spliced = splice_visual_tokens(embeds, ids, tokens, PLACEHOLDER)
    assert spliced.dtype == torch.bfloat16
    (spliced * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None]).sum().backward()
    assert embeds.grad[0, :, 0].tolist() == [1, 0, 0, 4]
    assert tokens.grad[:, 0].tolist() == [2, 3]


def test_a_batch_without_media_keeps_visual_tokens_in_the_graph():
    embeds, tokens = torch.randn(1, 2, 3), torch.randn(0, 3, requires_grad=True)
    spliced = splice_visual_tokens(embeds, torch.tensor([[1, 2]]), tokens, PLACEHOLDER)
    assert torch.equal(spliced, embeds)
    spliced.sum().backward()
    assert tokens.grad.shape == (0, 3)


@pytest.mark.parametrize("num_tokens", [2, 4])
def test_placeholders_and_visual_tokens_must_match(num_tokens):
    ids = torch.tensor([[1, 9, 9], [9, 2, 3]])
    message = rf"3 placeholders \(per row: \[2, 1\]\) but {num_tokens} visual tokens: expand each placeholder"
    with pytest.raises(ValueError, match=message):
        splice_visual_tokens(torch.randn(2, 3, 1), ids, torch.randn(num_tokens, 1), PLACEHOLDER)
