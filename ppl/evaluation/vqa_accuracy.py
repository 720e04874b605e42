"""VQA accuracy (Antol et al. 2015, arXiv:1505.00468; Goyal et al. 2017, arXiv:1612.00837) with EvalAI's rules.

The rules were read in GT-Vision-Lab/VQA, ``vqaEval.py``, and in facebookresearch/mmf, ``EvalAIAnswerProcessor``, which
lmms-eval 0.7.3 uses too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS)}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_COMMA = re.compile(r"(?<=\d),+(?=\d)")
_FULL_STOP = re.compile(r"\.(?!\d)")
_MOST_FULL_STOPS = 32
"""Removed of one answer: the authors pass ``re.UNICODE``, which is 32, where the number of them belongs."""

_CONTRACTED = """ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't
he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've
mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've
somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've
something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've
we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've"""


def vqa_normal(text: str) -> str:
    """As VQAv2 compares answers: punctuation and articles removed, numbers up to ten as digits, contractions whole.

    A mark of punctuation becomes a blank, or nothing where a blank is beside it or a comma within a number in the
    answer.
    """
    text = text.replace("\n", " ").replace("\t", " ").strip()
    bare = text
    for mark in _PUNCTUATION:
        beside_a_blank = f"{mark} " in text or f" {mark}" in text
        bare = bare.replace(mark, "" if beside_a_blank or _NUMBER_COMMA.search(text) else " ")
    words = _FULL_STOP.sub("", bare, count=_MOST_FULL_STOPS).lower().split()
    words = [_DIGITS.get(word, word) for word in words]
    return " ".join(_WHOLE.get(word, word) for word in words if word not in ("a", "an", "the"))


def textvqa_normal(text: str) -> str:
    """As TextVQA and VizWiz compare them: before that commas and question marks go, and ``'s`` becomes a word."""
    return vqa_normal(text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip())


def vqa_accuracy(prediction: str, references: Sequence[str], normal: Callable[[str], str] = vqa_normal) -> float:
    """Mean over the people who answered of min(n / 3, 1), n of the *others* having said the same.

    Args:
        prediction: The answer.
        references: Of all who were asked, ten as a rule.
        normal: What both are compared after.
    """
    if not references:
        msg = "got no reference, expected those of all who were asked: the answers of a test split are not public"
        raise ValueError(msg)
    said = normal(prediction)
    same = [normal(reference) == said for reference in references]
    return sum(min((sum(same) - own) / 3, 1.0) for own in same) / len(same)


def _whole_contractions() -> dict[str, str]:
    """Each with one of its apostrophes left out, and the one that the authors have the wrong way round."""
    whole = {"somebody'd": "somebodyd"}
    for word in _CONTRACTED.split():
        whole |= {word[:i] + word[i + 1 :]: word for i, mark in enumerate(word) if mark == "'"}
    return whole


_WHOLE = _whole_contractions()
