"""What a request may say, and how it is told what it may not."""

import json

import pytest

from ppl.serving.http.errors import ApiError
from ppl.serving.http.schemas import parse_chat

LEAST = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def parse(**fields):
    return parse_chat(json.dumps({**LEAST, **fields}).encode())


def refusal(body):
    with pytest.raises(ApiError) as caught:
        parse_chat(body)
    assert caught.value.status == 400
    return caught.value


def test_text_is_a_message_of_one_part():
    (message,) = parse().messages
    assert [(part.type, part.text) for part in message.content] == [("text", "hi")]


def test_by_default_the_likeliest_answer_guided_by_the_newest_question():
    chat = parse()
    assert (chat.temperature, chat.policy, chat.pooler, chat.token_budget) == (0.0, "per-turn", None, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "logprobs": False, "frequency_penalty": 0.0, "presence_penalty": 0, "tools": [], "store": False},
        {"response_format": {"type": "text"}, "tool_choice": "none", "logit_bias": {}, "modalities": ["text"]},
        {"n": None, "tools": None, "seed": None, "messages": [{"role": "user", "content": "hi", "name": None}]},
        {"user": "me", "metadata": {"a": "b"}, "safety_identifier": "x", "prompt_cache_key": "y"},
    ],
)
def test_what_asks_for_nothing_is_taken(fields):
    assert parse(**fields).messages[0].role == "user"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("n", True),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("response_format", {"type": "json_object"}),
        ("frequency_penalty", 0.5),
        ("logit_bias", {"5": 1}),
        ("store", True),
        ("audio", {"voice": "alloy"}),
        ("made_up", 1),
    ],
)
def test_what_is_not_offered_is_refused_by_name(field, value):
    error = refusal(json.dumps({**LEAST, field: value}).encode())
    assert error.param == field
    assert f"got {field}=" in error.message
    assert "does not offer; leave it out" in error.message


MEDIUM = {"type": "image_url", "image_url": {"url": "data:"}}


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"messages": 3}, "messages", "got 3 as messages: Input should be a valid list"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "'system', 'developer', 'user' or"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "got no messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages.0.content.0", "'audio'"),
        (
            {"messages": [{"role": "user", "content": [{**MEDIUM, "image_url": "x"}]}]},
            "messages.0.content.0.image_url",
            "valid object",
        ),
        (
            {"messages": [{"role": "user", "content": [{**MEDIUM, "image_url": {"url": "x", "detail": "high"}}]}]},
            "messages.0.content.0.image_url.detail",
            "'auto'",
        ),
        ({"model": 3}, "model", "valid string"),
        ({"temperature": "1"}, "temperature", "valid number"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": 1.5}, "max_tokens", "valid integer"),
        ({"stream": 1}, "stream", "valid boolean"),
        ({"seed": 10**30}, "seed", "less than"),
        ({"stop": ["a"] * 5}, "stop", "at most 4"),
        ({"policy": "all"}, "policy", "'per-turn', 'first-turn' or 'union'"),
    ],
)
def test_a_wrong_value_is_told_where_and_what_was_expected(fields, param, said):
    error = refusal(json.dumps({**LEAST, **fields}).encode())
    assert error.param == param
    assert said in error.message


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"3", b"nonsense", b"[" * 100_000, b'{"a":' * 5000, b"\xff\xfe", b'{"model": NaN}', b"1" * 5000],
    ids=["empty", "cut", "number", "word", "deep", "deeper", "bytes", "nan", "long"],
)
def test_what_is_no_object_is_refused(body):
    refusal(body)


@pytest.mark.parametrize("value", [b"0", b"{}", b'{"a":0}'])
def test_a_great_many_values_are_refused_before_they_are_read(value):
    """In half a mebibyte of them there were gigabytes of errors."""
    with pytest.raises(ApiError, match="got a body with over 100000 commas") as caught:
        parse_chat(b'{"model":"m","messages":[' + b",".join([value] * 100_002) + b"]}")
    assert caught.value.status == 413


@pytest.mark.parametrize("messages", [[0] * 1000, [{"role": "user", "content": [0] * 1000}]], ids=["messages", "parts"])
def test_of_many_that_are_wrong_the_first_is_told_and_no_other_looked_at(messages):
    error = refusal(json.dumps({**LEAST, "messages": messages}).encode())
    assert error.__cause__.error_count() == 1


def test_half_a_character_is_refused():
    error = refusal(b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}')
    error.message.encode()


def test_what_is_shown_of_a_long_value_is_short():
    assert len(refusal(json.dumps({**LEAST, "tools": ["x" * 10**6]}).encode()).message) < 200


def test_one_stop_string_is_a_list_of_one():
    assert parse(stop="END").stop == ["END"]
