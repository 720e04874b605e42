from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record, Turn, check_answered, check_record

MEDIUM = MediumRef("image", "a.png")


def record(*turns, media=()):
    return Record("id", [Turn(role, text) for role, text in turns], list(media), origin="train.jsonl:17")


def test_questions_are_the_user_turns_without_placeholders():
    turns = [
        ("system", "be brief"),
        ("user", "<media>\nwhat is\nthis ?"),
        ("assistant", "red"),
        ("user", "and\u00a0now ?"),
    ]
    assert record(*turns, media=[MEDIUM]).questions == ["what is this ?", "and now ?"]


@given(st.integers(1, 4), st.booleans(), st.booleans())
def test_well_formed_conversations_pass(rounds, system, answered):
    turns = [("system", "s")] * system + [("user", "q"), ("assistant", "a")] * rounds + [("user", "q")] * (not answered)
    check_record(record(*turns))
    if answered:
        check_answered(record(*turns))


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        (
            [("user", "q"), ("user", "q")],
            r"got a turn of the user after user \(turn 1\); expected one of the assistant",
        ),
        ([("assistant", "a")], r"got a turn of the assistant first \(turn 0\); expected one of the user"),
        ([("user", "q"), ("system", "s")], "got a turn of the system after user"),
        ([("user", f"{PLACEHOLDER}\n ")], "got an empty question; expected text in every user turn besides the media"),
        ([], "got an empty question"),
        ([("user", "q")], "got 0 placeholders in the user turns; expected 1, one for each medium"),
        ([("user", f"{PLACEHOLDER} {PLACEHOLDER} q")], "got 2 placeholders in the user turns; expected 1"),
        ([("user", "q"), ("assistant", PLACEHOLDER)], "got <media> in the text of the assistant"),
        ([("user", "<video> q")], "got <video> in the text of the user"),
    ],
)
def test_malformed_records_are_refused_with_their_origin(turns, message):
    with pytest.raises(ValueError, match=rf"^train\.jsonl:17: {message}"):
        check_record(record(*turns, media=[MEDIUM]))


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([("user", "q")], "got a conversation that ends with a question; expected an assistant turn last; add the"),
        ([("user", "q"), ("assistant", "")], "got an empty assistant turn"),
    ],
)
def test_records_without_an_answer_cannot_train(turns, message):
    with pytest.raises(ValueError, match=rf"^train\.jsonl:17: {message}"):
        check_answered(record(*turns))
