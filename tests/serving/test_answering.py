"""Which questions make a batch, and how; their answers are compared in ``test_engine.py``."""

import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ppl.datamodules.processing import Processor
from ppl.datamodules.records import Turn
from ppl.modules.generation import Generation
from ppl.serving.answering import Asked, Question, _padded, _that_fit, answer_together
from ppl.serving.answers import Answer
from ppl.serving.encoded_media import EncodedMedia, Keeping
from ppl.serving.media_encoder import MediaEncoder
from tests.modules.tiny import guided_model

CONTEXT = 100


@pytest.fixture(scope="module")
def asked_of():
    model = guided_model()
    processor = Processor(model.input_spec)

    def make(generation, text="find", positions=None):
        answer = Answer(model.backbone.tokenizer, (), generation.max_new_tokens, time.monotonic() + 60.0)
        asked = Asked(Question((Turn("user", text),), generation=generation), answer, model, processor)
        asked.embeds = None if positions is None else torch.zeros(1, positions, 4)
        return asked

    make.model, make.processor = model, processor
    return make


GREEDY = Generation(max_new_tokens=9)


@pytest.mark.parametrize(
    ("change", "together"),
    [
        ({}, True),
        ({"max_new_tokens": 3}, True),
        ({"stop_strings": ("red",)}, True),
        ({"temperature": 1.0}, False),
        ({"repetition_penalty": 1.1}, False),
    ],
)
def test_questions_go_together_if_tokens_are_chosen_alike(asked_of, change, together):
    one, other = asked_of(GREEDY), asked_of(replace(GREEDY, **change))
    assert one.goes_with(other) == other.goes_with(one) == together


def test_a_seed_goes_with_nothing(asked_of):
    seeded = replace(GREEDY, temperature=1.0, seed=1)
    assert not asked_of(seeded).goes_with(asked_of(seeded))


rows = st.lists(st.tuples(st.integers(1, CONTEXT - 1), st.integers(1, CONTEXT)), min_size=1, max_size=8)


@given(rows, st.integers(1, 8))
def test_batches_keep_order_fit_the_context_and_are_no_more_than_half_padding(asked_of, rows, most):
    context = asked_of.model.backbone.hf.config.text_config
    before, context.max_position_embeddings = context.max_position_embeddings, CONTEXT
    line = [asked_of(Generation(min(tokens, CONTEXT - length)), positions=length) for length, tokens in rows]
    left, seen = line, []
    while left:
        batch, left = _that_fit(left, most)
        seen += batch
        lengths = [asked.num_positions for asked in batch]
        assert 1 <= len(batch) <= most
        assert batch == sorted(batch, key=line.index)
        assert max(lengths) + max(asked.answer.max_new_tokens for asked in batch) <= CONTEXT
        assert sum(max(lengths) - length for length in lengths) <= sum(lengths)
    context.max_position_embeddings = before
    assert sorted(seen, key=line.index) == line


def test_questions_of_one_length_are_one_batch(asked_of):
    line = [asked_of(GREEDY, positions=20) for _ in range(5)]
    assert _that_fit(line, 8) == (line, [])


def test_a_long_question_does_not_pad_short_ones_without_end(asked_of):
    line = [asked_of(GREEDY, positions=length) for length in (5, 5, 5, 60, 5)]
    short, [long] = _that_fit(line, 8)
    assert [asked.num_positions for asked in (*short, long)] == [5, 5, 5, 5, 60]
    pair = [asked_of(GREEDY, positions=length) for length in (60, 5)]
    assert _that_fit(pair, 8) == (pair, [])


def test_rows_are_padded_on_the_left():
    embeds, mask = _padded([torch.ones(1, 2, 3), 2 * torch.ones(1, 4, 3), 3 * torch.ones(1, 1, 3)])
    assert mask.tolist() == [[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]]
    assert embeds[..., 0].tolist() == [[0, 0, 1, 1], [2, 2, 2, 2], [0, 0, 0, 3]]


def test_who_has_gone_meanwhile_is_not_prepared(asked_of):
    media = MediaEncoder(asked_of.model, asked_of.processor, EncodedMedia(Keeping()))
    gone, stays = asked_of(GREEDY), asked_of(GREEDY)
    gone.answer.cancel()
    answer_together(media, [gone, stays])
    assert gone.embeds is None
    assert stays.answer.report.result(0).num_rows == 1
