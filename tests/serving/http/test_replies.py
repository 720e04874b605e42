"""What a client reads of how an answer ended; test_chat.py has the rest."""

import json

import pytest

from ppl.serving.answers import Report
from ppl.serving.http.replies import Reply


@pytest.mark.parametrize(("finish", "reason"), [("stop", "stop"), ("length", "length"), ("late", "length")])
def test_how_it_ended_is_told_in_openai_s_words_and_in_ours(finish, reason):
    reply, report = Reply("chatcmpl-1", "m", 5), Report(finish, 7, 3, 2, {"pool": 1.5}, 1, 1)
    whole = reply.whole("yes", report)
    event = json.loads(reply.piece({}, report).removeprefix(b"data: "))
    for told in (whole, event):
        assert told["choices"][0]["finish_reason"] == reason
        assert told["ppl"] == {
            "finish": finish,
            "milliseconds": {"pool": 1.5},
            "answered_together": 1,
            "media_found": 1,
        }
    assert whole["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "total_tokens": 9,
        "prompt_tokens_details": {"visual_tokens": 3},
    }


def test_an_event_is_one_line_whatever_the_text():
    event = Reply("chatcmpl-1", "m", 5).piece({"content": "a\n\nb \u2028 é"})
    assert event.count(b"\n") == 2
    assert event.endswith(b"\n\n")
