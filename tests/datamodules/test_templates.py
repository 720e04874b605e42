from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from ppl.datamodules.records import Turn
from ppl.datamodules.templates import TEMPLATES, prompt_turns, segments

LLAVA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
INTERNVL_SYSTEM = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
TURNS = [Turn("user", "<media>\nQ1"), Turn("assistant", "A1"), Turn("user", "Q2"), Turn("assistant", "A2")]
ROUNDS = "USER: <media>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>"
CHATML_ROUNDS = (
    "<|im_start|>user\n<media>\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
    "<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\nA2<|im_end|>"
)
MISTRAL_ROUNDS = "[INST] <media>\nQ1 [/INST] A1</s> [INST] Q2 [/INST] A2</s>"
OWN_SYSTEM = {
    "plain_v1": "Watch the video. " + ROUNDS,
    "vicuna_v1": "Watch the video. " + ROUNDS,
    "chatml": "<|im_start|>system\nWatch the video.<|im_end|>\n" + CHATML_ROUNDS,
    "internvl2_5": "<|im_start|>system\nWatch the video.<|im_end|>\n" + CHATML_ROUNDS,
    "mistral": "<<SYS>>\nWatch the video.\n<</SYS>>\n\n" + MISTRAL_ROUNDS,
}
ENDS = {
    "plain_v1": "</s>",
    "vicuna_v1": "</s>",
    "chatml": "<|im_end|>",
    "internvl2_5": "<|im_end|>",
    "mistral": "</s>",
}


def render(turns, name):
    return "".join(piece.text for piece in segments(turns, TEMPLATES[name]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain_v1", ROUNDS),
        ("vicuna_v1", LLAVA_SYSTEM + " " + ROUNDS),
        ("chatml", "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + CHATML_ROUNDS),
        ("internvl2_5", f"<|im_start|>system\n{INTERNVL_SYSTEM}<|im_end|>\n" + CHATML_ROUNDS),
        ("mistral", MISTRAL_ROUNDS),
    ],
)
def test_rendered_text(name, expected):
    assert render(TURNS, name) == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_system_turn_replaces_the_template_s(name):
    turns = [Turn("system", "Watch the video."), *TURNS]
    assert render(turns, name) == OWN_SYSTEM[name]


def test_prompt_ends_with_the_assistant_prefix():
    assert render(prompt_turns(TURNS), "plain_v1") == "USER: <media>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:"
    assert render(prompt_turns(TURNS), "chatml").endswith("<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n")
    assert render(prompt_turns(TURNS), "mistral").endswith("A1</s> [INST] Q2 [/INST]")
    assert prompt_turns(TURNS[:3]) == TURNS[:3]


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4), st.sampled_from(sorted(TEMPLATES)))
def test_exactly_answers_train_and_prompts_are_prefixes(rounds, name):
    turns = [turn for q, a in rounds for turn in (Turn("user", q), Turn("assistant", a))]
    pieces = segments(turns, TEMPLATES[name])
    space = TEMPLATES[name].answer_prefix
    assert [piece.text for piece in pieces if piece.trains] == [f"{space}{answer}{ENDS[name]}" for _, answer in rounds]
    assert render(turns, name) == render(prompt_turns(turns), name) + pieces[-1].text


# The chat templates of the published checkpoints, cut to text and the branches in use.
QWEN2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INTERNVL3 = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}{{ message['content'] }}"
    "{{'<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)
LLAVA_MISTRAL = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<<SYS>>\n' + message['content'] + '\n<</SYS>>\n\n' }}{% elif message['role'] == 'user' %}"
    "{{ '[INST] ' }}{{ message['content'] }}{{' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + '</s> '}}{% endif %}{% endfor %}"
)
PUBLISHED = {
    "chatml": (QWEN2, ""),
    "internvl2_5": (INTERNVL3, INTERNVL_SYSTEM),
    "mistral": (LLAVA_MISTRAL, ""),
}
"""Template -> the checkpoint's own, and the system text it has to be told."""


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("system", ["", "Watch the video."])
def test_text_is_that_of_the_checkpoint_s_own_template(name, system, tokenizer):
    published, told = PUBLISHED[name]
    speaker = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, chat_template=published)
    turns = [Turn("system", system), *TURNS] if system else TURNS
    said = [{"role": "system", "content": system or told}] if system or told else []
    messages = said + [{"role": turn.role, "content": turn.text} for turn in TURNS]
    whole = speaker.apply_chat_template(messages, tokenize=False)
    assert whole == render(turns, name) + TEMPLATES[name].round_separator
    prompt = speaker.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    assert prompt == render(prompt_turns(turns), name)
