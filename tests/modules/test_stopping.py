"""Stop strings, against all of a text decoded after each token."""

from threading import Event

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from ppl.modules.stopping import StopSearch, before_stop, stopping


def llama_like(decoder="fallback"):
    """A tokenizer of a few words, and of single bytes for the rest; decoded as Llama's, or by Metaspace."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁▁", "▁red", "▁-", "US", "ER:"]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        if decoder == "fallback"
        else [decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()]
    )
    specials = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials)


def token_ids(tokenizer, words):
    """Ids of words that the vocabulary has, and of the bytes of those that it has not."""
    vocab = tokenizer.get_vocab()
    return [vocab[t] for w in words for t in ([w] if w in vocab else [f"<0x{b:02X}>" for b in w.encode()])]


@settings(deadline=None, max_examples=100)
@given(
    st.text(st.sampled_from("abc"), max_size=12),
    st.lists(st.text(st.sampled_from("abc"), min_size=1, max_size=4), max_size=3),
)
def test_text_is_cut_by_the_stop_that_is_complete_first(text, stops):
    expected = text
    for end in range(len(text) + 1):  # letter by letter, as they are said
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            expected = text[: end - max(map(len, complete))]
            break
    assert before_stop(text, stops) == expected


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from(["▁red", "▁", "▁▁", "中", "文", "é", "\n", "a", "US", "ER:", "🔴"]), max_size=8),
    st.sampled_from(["停", "\n\n", "USER:", "\nUSER:", "中文", "🔴é", "red 停"]),
)
def test_a_stop_is_found_at_its_last_token_whatever_is_before_it(words, stop):
    """Decoding all of a row's tokens after each step says when; characters of several tokens are only whole then."""
    tokenizer = llama_like()
    ids = token_ids(tokenizer, [*words, *(["US", "ER:"] if stop == "USER:" else stop)])
    steps = [torch.tensor([ids[:end]]) for end in range(1, len(ids) + 1)]
    expected = [stop in text for step in steps for text in tokenizer.batch_decode(step)]
    ends = stopping(("never said", stop), tokenizer, None)
    found = [bool(ends(step, None)) for step in steps]
    first = expected.index(True) + 1  # generation ends here
    assert found[:first] == expected[:first]
    search = StopSearch(tokenizer, ("never said", stop))
    assert [search.finds(step[0].tolist()) for step in steps[:first]] == expected[:first]


def test_nothing_is_found_where_nothing_is_looked_for():
    assert not StopSearch(llama_like(), ()).finds([5, 6])


def test_an_event_ends_all_rows_and_several_one_each():
    tokens = torch.zeros(3, 2, dtype=torch.int64)
    events = [Event(), Event(), Event()]
    for ends, expected in ((events[1], [True] * 3), (events, [False, True, False])):
        criteria = stopping((), llama_like(), ends)
        events[1].clear()
        assert criteria(tokens, None).tolist() == [False] * 3
        events[1].set()
        assert criteria(tokens, None).tolist() == expected
    with pytest.raises(AssertionError, match="one event for each row"):
        stopping((), llama_like(), events[:2])(tokens, None)
