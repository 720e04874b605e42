"""Text that is cut at stop strings as it comes, and a generation that ends with its listener."""

import gc
import threading
from time import monotonic, sleep

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.modules.generation import decode_answers
from ppl.modules.stopping import before_stop
from ppl.serving.streaming import stream_answer, until_stop
from tests.modules.test_stopping import llama_like, token_ids
from tests.modules.tiny import tiny_backbone

letters = st.text(st.sampled_from("abc"), max_size=12)
stops = st.lists(st.text(st.sampled_from("abc"), min_size=1, max_size=4), max_size=3)


@settings(deadline=None, max_examples=100)
@given(st.lists(letters, max_size=6), stops)
def test_pieces_of_any_size_join_to_the_text_before_the_stop(pieces, stop_strings):
    shown = list(until_stop(pieces, stop_strings))
    assert "".join(shown) == before_stop("".join(pieces), stop_strings)
    assert all(shown)


def test_text_is_not_held_back_for_longer_than_it_may_be_a_stop():
    pieces = iter(["a US", "A wall. US", "ER", ": why"])
    heard = until_stop(pieces, ["USER:"])
    assert next(heard) == "a "
    assert next(heard) == "USA wall. "
    assert list(heard) == []


def test_of_a_long_stop_string_no_more_is_compared_than_was_said():
    """A client may send one of millions of letters, and each piece of the answer would be compared with all of it."""

    class Counted(str):
        cuts = 0

        def __getitem__(self, index):
            Counted.cuts += 1
            return super().__getitem__(index)

    assert list(until_stop(["a word", " and", " x"], [Counted("x" * 10_000)])) == ["a word", " and", " ", "x"]
    assert Counted.cuts <= len("a word and x")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_backbone().tokenizer


def endless(tokenizer, steps):
    """Stand in for a model that says "red" until it is cancelled."""
    red = tokenizer.convert_tokens_to_ids("red")

    def generate(streamer, cancelled):
        streamer.put(torch.empty(1, 0, dtype=torch.int64))
        while not cancelled.is_set():
            steps.append(threading.current_thread())
            streamer.put(torch.tensor([red]))
        streamer.end()
        return torch.tensor([[red] * len(steps)])

    return generate


def test_closing_the_iterator_ends_the_generation(tokenizer):
    steps = []
    answer = stream_answer(endless(tokenizer, steps), tokenizer, (), streams=True)
    assert next(answer).strip() == "red"
    answer.close()
    assert not steps[0].is_alive()


def test_a_stop_string_in_pieces_ends_the_generation_and_is_not_shown(tokenizer):
    steps = []
    assert "".join(stream_answer(endless(tokenizer, steps), tokenizer, ("red red red",), streams=True)) == ""
    assert not steps[0].is_alive()


def test_what_generation_raises_is_raised_to_the_listener(tokenizer):
    def generate(streamer, cancelled):
        streamer.put(torch.empty(1, 0, dtype=torch.int64))
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(stream_answer(generate, tokenizer, (), streams=True))


def test_an_answer_that_is_known_at_the_end(tokenizer):
    tokens = torch.tensor([tokenizer.convert_tokens_to_ids(["a", "red", "circle"])])
    answer = stream_answer(lambda streamer, cancelled: tokens, tokenizer, ("circle",), streams=False)
    assert "".join(answer).split() == ["a", "red"]


def spoken(tokens):
    """Stand in for a model that says these tokens, one at a time."""

    def generate(streamer, cancelled):
        streamer.put(torch.empty(1, 0, dtype=torch.int64))
        for token in tokens:
            streamer.put(torch.tensor([token]))
        streamer.end()
        return torch.tensor([tokens])

    return generate


def known(tokens):
    """Stand in for a search whose tokens are known at the end."""
    return lambda streamer, cancelled: torch.tensor([tokens])


@pytest.mark.parametrize("decoder", ["fallback", "metaspace"])
@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from(["▁red", "▁", "▁▁", "▁-", "中", "é", "\n", "a", "US", "ER:", "🔴", "</s>"]), max_size=12),
    st.sampled_from([(), ("停",), ("USER:", "\n\n"), ("中",), ("a",)]),
)
def test_what_streams_is_what_decoding_at_once_says(decoder, words, stop_strings):
    """To the character, line breaks and the blanks after them included."""
    tokenizer = llama_like(decoder)
    ids = token_ids(tokenizer, words)
    streamed = "".join(stream_answer(spoken(ids), tokenizer, stop_strings, streams=True))
    [expected] = decode_answers(tokenizer, torch.tensor([ids], dtype=torch.int64), stop_strings)
    assert streamed.strip() == expected
    assert streamed == before_stop(str(tokenizer.decode(ids, skip_special_tokens=True)), stop_strings)


def test_a_character_of_several_tokens_is_shown_once_it_is_whole():
    tokenizer = llama_like()
    ids = token_ids(tokenizer, ["▁red", "中", "\n", "▁▁", "▁-"])
    assert list(stream_answer(spoken(ids), tokenizer, (), streams=True)) == ["red", "中", "\n", "  ", " -"]
    assert "".join(stream_answer(spoken(ids[:2]), tokenizer, (), streams=True)) == "red\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("streams", [True, False])
def test_tokens_that_cannot_be_decoded_are_an_error_not_a_wait(streams, monkeypatch):
    tokenizer, errors = llama_like(), []

    def fail(*_, **__):
        raise RuntimeError("no such token")

    def listen():
        try:
            list(stream_answer(spoken([1, 2]) if streams else known([1, 2]), tokenizer, (), streams=streams))
        except RuntimeError as error:
            errors.append(str(error))

    monkeypatch.setattr(tokenizer, "decode", fail)
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    listener.join(timeout=60)
    assert errors == ["no such token"]


def test_an_abandoned_iterator_may_be_collected_by_its_own_thread(tokenizer, monkeypatch):
    """Such as a cycle of references that nobody can reach any more, when the model's thread happens to collect it."""
    red = tokenizer.convert_tokens_to_ids("red")
    abandoned, ended, troubles = threading.Event(), [], []
    monkeypatch.setattr("sys.unraisablehook", lambda trouble: troubles.append(repr(trouble.exc_value)))

    def generate(streamer, cancelled):
        streamer.put(torch.empty(1, 0, dtype=torch.int64))
        streamer.put(torch.tensor([red, red]))
        abandoned.wait(timeout=60)
        gc.collect()
        ended.append(cancelled.is_set())
        return torch.tensor([[red]])

    def leave():
        answer = stream_answer(generate, tokenizer, (), streams=True)
        next(answer)
        cycle: list[object] = [answer]
        cycle.append(cycle)

    gc.disable()
    try:
        leave()
        abandoned.set()
        deadline = monotonic() + 60
        while not ended and monotonic() < deadline:
            sleep(0.01)
    finally:
        gc.enable()
    assert ended == [True]
    assert troubles == []
