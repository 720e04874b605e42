from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ppl.datamodules.processing import Processor
from ppl.datamodules.records import Record, Turn
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


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("plain_v1", [" A1</s>", " A2</s>"]),
        ("vicuna_v1", [" A1</s>", " A2</s>"]),
        ("chatml", ["A1<|im_end|>", "A2<|im_end|>"]),
        ("internvl2_5", ["A1<|im_end|>", "A2<|im_end|>"]),
        ("mistral", [" A1</s>", " A2</s>"]),
    ],
)
@pytest.mark.parametrize("system", [[], [Turn("system", "Watch the video.")]])
def test_golden_masks(name, answers, system):
    """Of two rounds, with the template's system text and with one's own: the answers with what ends them, no more."""
    pieces = segments([*system, *TURNS], TEMPLATES[name])
    assert [piece.text for piece in pieces if piece.trains] == answers
    text = "".join(piece.text for piece in pieces)
    assert text == render([*system, *TURNS], name)
    trained = [(text.index(answer), len(answer)) for answer in answers]
    starts = [0, *accumulate(len(piece.text) for piece in pieces)]
    assert [(start, len(p.text)) for start, p in zip(starts, pieces, strict=False) if p.trains] == trained


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


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_ends_at_a_stop_string_with_or_without_the_end_token(name):
    template = TEMPLATES[name]
    said = render(TURNS, name).partition("A1")[2]
    assert said.startswith(template.stop_strings)
    forgotten = said.removeprefix(ENDS[name]).removeprefix(template.round_separator)
    assert forgotten.startswith(template.stop_strings)
    assert not any(stop in turn.text for stop in template.stop_strings for turn in TURNS)


# The chat templates of the published checkpoints, cut to text and the branches in use. Sources: Qwen/Qwen2-7B-Instruct
# tokenizer_config.json; transformers' convert_internvl_weights_to_hf.py; chat_template.json of llava-v1.6-mistral-7b-hf
# and, the same file, llava-1.5-7b-hf and llava-v1.6-vicuna-7b-hf; haotian-liu/LLaVA llava/conversation.py, get_prompt
# of SeparatorStyle.TWO, as Jinja.
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
LLAVA_TWO = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + ' ' }}{% else %}"
    "{{ message['role'].upper() + ': ' + message['content'] }}{{ ' ' if message['role'] == 'user' else '</s>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
LLAVA_VICUNA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{{ message['content'] + ' '}}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
PUBLISHED = {
    "vicuna_v1": (LLAVA_TWO, LLAVA_SYSTEM),
    "chatml": (QWEN2, ""),
    "internvl2_5": (INTERNVL3, INTERNVL_SYSTEM),
    "mistral": (LLAVA_MISTRAL, ""),
}
"""Template -> the checkpoint's own, and the system text it has to be told."""


def byte_tokenizer(end, chat_template):
    """Tokens of one byte, and blanks fused with a letter that may follow, as in the real ones: every blank counts."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", letter) for letter in "AQRU"]
    vocabulary = [*alphabet, *map("".join, merges), "<image>", "<|im_start|>", end]
    model = models.BPE(vocab={token: i for i, token in enumerate(vocabulary)}, merges=merges)
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<image>", "<|im_start|>", end])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, chat_template=chat_template)


def conversation(rounds, system):
    turns = [turn for i in range(rounds) for turn in (Turn("user", f"Q{i} ?"), Turn("assistant", f"Red {i}."))]
    return [Turn("system", system), *turns] if system else turns


def as_messages(turns, told=""):
    turns = [Turn("system", told), *turns] if told and turns[0].role != "system" else turns
    return [{"role": turn.role, "content": turn.text} for turn in turns]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("system", ["", "Watch the video."])
@pytest.mark.parametrize("rounds", [1, 3])
def test_text_and_tokens_are_those_of_the_checkpoint_s_own_template(name, system, rounds, input_spec):
    published, told = PUBLISHED[name]
    speaker = byte_tokenizer(ENDS[name], published)
    processor = Processor(replace(input_spec, tokenizer=speaker), name)
    turns = conversation(rounds, system)
    messages = as_messages(turns, told)
    whole = speaker.apply_chat_template(messages, tokenize=False)
    assert whole == render(turns, name) + TEMPLATES[name].round_separator
    prompt = speaker.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    assert prompt == render(prompt_turns(turns), name)
    record = Record("", turns, [])
    ids = speaker.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    ours = processor.assemble(record, []).input_ids.tolist()
    assert ours == ids[: len(ours)]
    assert speaker.decode(ids[len(ours) :]) == TEMPLATES[name].round_separator
    asked = speaker.apply_chat_template(messages[:-1], tokenize=True, return_dict=True, add_generation_prompt=True)
    assert processor.assemble(record, [], for_generation=True).input_ids.tolist() == asked["input_ids"]


def test_where_llava_s_checkpoints_depart_from_what_they_were_trained_with():
    """Their template has a blank where LLaVA's code has the end token (transformers, pull request 30130)."""
    speaker = byte_tokenizer("</s>", LLAVA_VICUNA)
    turns = conversation(2, "")
    prompts = [
        speaker.apply_chat_template(as_messages(asked, LLAVA_SYSTEM), tokenize=False, add_generation_prompt=True)
        for asked in (turns[:1], turns[:3])
    ]
    assert prompts[0] == render(turns[:1], "vicuna_v1")
    assert prompts[1] == render(turns[:3], "vicuna_v1").replace("</s>", " ")
