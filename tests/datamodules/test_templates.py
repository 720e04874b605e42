from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl.datamodules.records import Turn
from ppl.datamodules.templates import TEMPLATES, prompt_turns, segments

LLAVA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
TURNS = [Turn("user", "<media>\nQ1"), Turn("assistant", "A1"), Turn("user", "Q2"), Turn("assistant", "A2")]


def render(turns, name):
    return "".join(piece.text for piece in segments(turns, TEMPLATES[name]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain_v1", "USER: <media>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>"),
        ("vicuna_v1", LLAVA_SYSTEM + " USER: <media>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>"),
    ],
)
def test_rendered_text(name, expected):
    assert render(TURNS, name) == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_system_turn_replaces_the_template_s(name):
    turns = [Turn("system", "Watch the video."), *TURNS]
    assert render(turns, name) == ("Watch the video. USER: <media>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>")


def test_prompt_ends_with_the_assistant_prefix():
    assert render(prompt_turns(TURNS), "plain_v1") == "USER: <media>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:"
    assert prompt_turns(TURNS[:3]) == TURNS[:3]


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4), st.sampled_from(sorted(TEMPLATES)))
def test_exactly_answers_train_and_prompts_are_prefixes(rounds, name):
    turns = [turn for q, a in rounds for turn in (Turn("user", q), Turn("assistant", a))]
    pieces = segments(turns, TEMPLATES[name])
    assert [piece.text for piece in pieces if piece.trains] == [f" {answer}</s>" for _, answer in rounds]
    assert render(turns, name) == render(prompt_turns(turns), name) + pieces[-1].text
