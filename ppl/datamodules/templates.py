"""Chat templates: how turns become the text a language model was trained on.

The space between ``ASSISTANT:`` and an answer belongs to the answer: tokenizers fuse it with the answer's first word,
so a prompt for generation must end without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from ppl.datamodules.records import Turn

TemplateName = Literal["plain_v1", "vicuna_v1", "chatml", "internvl2_5", "mistral"]


@dataclass(frozen=True)
class ChatTemplate:
    """The fixed text around turns."""

    system: str
    """Said first when a record brings no system turn; may be empty."""
    system_prefix: str
    """Precedes the system text if there is one."""
    system_suffix: str
    """Follows the system text if there is one."""
    user_prefix: str
    user_suffix: str
    assistant_prefix: str
    """Ends a prompt for generation; no space at its end."""
    answer_prefix: str
    """Between ``assistant_prefix`` and an answer; trained with it."""
    assistant_suffix: str
    """Ends an answer, and tells the model to stop: the tokenizer's end token; trained."""
    round_separator: str
    """Between that and the next question; not trained."""
    stop_strings: tuple[str, ...]
    """What a model writes that does not stop where it should: the end spelt out, or a question of its own."""


class Segment(NamedTuple):
    """A piece of rendered text."""

    text: str
    trains: bool
    """Whether its tokens carry loss."""


PLAIN_V1 = ChatTemplate(
    system="",
    system_prefix="",
    system_suffix=" ",
    user_prefix="USER: ",
    user_suffix="",
    assistant_prefix=" ASSISTANT:",
    answer_prefix=" ",
    assistant_suffix="</s>",
    round_separator="",
    stop_strings=("</s>", "USER:"),
)
"""PPLLaVA's own (farewellthree/PPLLaVA, vicuna branch): no system text unless the record has one."""

VICUNA_V1 = replace(
    PLAIN_V1,
    system=(
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    ),
)
"""LLaVA-1.5's and Video-LLaVA's ``vicuna_v1``, as their own code writes it.

The chat templates of llava-hf's checkpoints begin alike, but put a blank after an answer where training had ``</s>``.
"""

CHATML = ChatTemplate(
    system="You are a helpful assistant.",
    system_prefix="<|im_start|>system\n",
    system_suffix="<|im_end|>\n",
    user_prefix="<|im_start|>user\n",
    user_suffix="<|im_end|>\n",
    assistant_prefix="<|im_start|>assistant\n",
    answer_prefix="",
    assistant_suffix="<|im_end|>",
    round_separator="\n",
    stop_strings=("<|im_end|>", "<|im_start|>"),
)
"""Qwen2's: LLaVA-OneVision's and LLaVA-Video's ``qwen_1_5``."""

INTERNVL2_5 = replace(
    CHATML,
    system=(
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
    ),
)
"""InternVL2.5's and InternVL3's of that name; transformers' checkpoints of them say nothing by themselves."""

MISTRAL = ChatTemplate(
    system="",
    system_prefix="<<SYS>>\n",
    system_suffix="\n<</SYS>>\n\n",
    user_prefix="[INST] ",
    user_suffix=" ",
    assistant_prefix="[/INST]",
    answer_prefix=" ",
    assistant_suffix="</s>",
    round_separator=" ",
    stop_strings=("</s>", "[INST]"),
)
"""LLaVA-NeXT's with Mistral, as in the chat template of ``llava-hf/llava-v1.6-mistral-7b-hf``."""

TEMPLATES: dict[TemplateName, ChatTemplate] = {
    "plain_v1": PLAIN_V1,
    "vicuna_v1": VICUNA_V1,
    "chatml": CHATML,
    "internvl2_5": INTERNVL2_5,
    "mistral": MISTRAL,
}


def segments(turns: Sequence[Turn], template: ChatTemplate) -> list[Segment]:
    """Render turns as pieces that concatenate to the exact text; only answers with their suffix train.

    Turns that end with the user's give a prompt for generation: the last piece ends with ``assistant_prefix``.

    Args:
        turns: An optional system turn, then user and assistant in turn.
        template: The text around them.
    """
    system = next((turn.text for turn in turns if turn.role == "system"), template.system)
    said = template.system_prefix + system + template.system_suffix
    pieces = [Segment(said, trains=False)] if system else []
    separator = ""
    for turn in turns:
        if turn.role == "user":
            asked = template.user_prefix + turn.text + template.user_suffix + template.assistant_prefix
            pieces.append(Segment(separator + asked, trains=False))
            separator = template.round_separator
        elif turn.role == "assistant":
            pieces.append(Segment(template.answer_prefix + turn.text + template.assistant_suffix, trains=True))
    return pieces


def prompt_turns(turns: Sequence[Turn]) -> list[Turn]:
    """Drop the last answer, if any: what a model is given to generate it."""
    return list(turns[:-1] if turns[-1].role == "assistant" else turns)
