"""Read the letter of an option out of what a model said; every benchmark's authors do it in their own way."""

from __future__ import annotations

import re

_VIDEOMME_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",  # two that lack a comma between them
    "Best answer:Best option:",
    "Answer:",
    "Option:",
    "The correct answer",
    "The correct option",
)
_LONGVIDEOBENCH_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
)


def first_capital(text: str) -> str | None:
    """The first A, B, C or D anywhere, after a few phrases are removed: Video-MME's ``extract_characters_regex``.

    (thanku-all/parse_answer, ``eval_your_results.py``, which Video-MME's README points to; PPLLaVA's
    ``ppllava/test/video_mme/eval_result.py`` is the same.) The B of "Based on the video" counts, and so does the A of
    an article that begins a sentence.
    """
    return _first(text, _VIDEOMME_PHRASES, "[ABCD]")


def first_capital_of_five(text: str) -> str | None:
    """The first A, B, C, D or E anywhere, after a few phrases are removed: as LongVideoBench's authors.

    (EvolvingLMMs-Lab/lmms-eval 0.7.3, ``tasks/longvideobench/utils.py``, which they contributed.)
    """
    return _first(text, _LONGVIDEOBENCH_PHRASES, "[ABCDE]")


def _first(text: str, phrases: tuple[str, ...], letters: str) -> str | None:
    text = text.strip()
    for phrase in phrases:
        text = text.replace(phrase, "")
    found = re.search(letters, text)
    return None if found is None else found[0]


def leading_letter(text: str) -> str | None:
    """The letter that an answer begins with, as in ``B``, ``(b)`` or ``B. Gray``; not the article of ``A man``.

    Ours: what continues ``Best option:(`` is a letter, or it is no answer.
    """
    found = re.match(r"\s*\(?([A-Za-z])(?:\s*$|\s*[).:,;\n])", text)
    return None if found is None else found[1].upper()


def matches_option(text: str, letter: str) -> bool:
    """Whether MVBench's authors take an answer for an option: ``check_ans``, by the first word of each.

    (OpenGVLab/Ask-Anything, ``video_chat2/mvbench.ipynb``; PPLLaVA's ``ppllava/test/mvbench/utils.py`` is the same.)
    One that says nothing but ``(`` matches every option.

    Args:
        text: What was said, the ``(`` that began it included.
        letter: Of the option.
    """
    word, option = text.lower().split(" ")[0], f"({letter.lower()})"
    return word.replace(".", "") in option or option in word
