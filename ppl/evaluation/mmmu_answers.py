"""Mark open answers as MMMU's authors do.

Written anew from MMMU-Benchmark/MMMU 51ce7f3, ``eval/eval_utils.py``, which lmms-eval 0.7.3's task names as its source.
"""

from __future__ import annotations

import re

_ANNOUNCED = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = (":", ",", ".", "!", "?", ";", "'")
_NUMBERS = (
    r"-?\b\d{1,3}(?:,\d{3})+\b",
    r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
    r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
)
"""With commas, with an exponent, and plain ones."""


def open_candidates(text: str) -> list[str | float]:
    """What an answer may mean: the end of each line behind "is", "so", "=" and the like, and the numbers in it.

    An answer that announces nothing is taken whole. "=" counts in its last line only.
    """
    text = text.strip().strip(".").lower()
    lines = re.split(r"\.\s(?=[A-Z])|\n", text)  # lower case already: full stops never part lines
    ends = [
        _shortest_end(line, (*_ANNOUNCED, "=") if line_is_last else _ANNOUNCED) for line, line_is_last in _last(lines)
    ]
    found = [end for end in ends if end and end not in _TRIVIAL] or [text]
    numbers = [number for end in found for form in _NUMBERS for number in re.findall(form, end)]
    return list(dict.fromkeys(value for each in [*found, *numbers] for value in normal_forms(each)))


def _last(lines: list[str]) -> list[tuple[str, bool]]:
    return [(line, index == len(lines) - 1) for index, line in enumerate(lines)]


def _shortest_end(line: str, announcements: tuple[str, ...]) -> str:
    ends = [line.split(each)[-1].strip() for each in announcements if each in line]
    shortest = ""
    for end in ends:
        if not shortest or len(end) < len(shortest):
            shortest = end
    return shortest


def normal_forms(text: str) -> list[str | float]:
    """A number, rounded to two places, or words in lower case; a single letter with a blank on either side."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def open_is_right(candidates: list[str | float], reference: str) -> bool:
    """Whether one candidate is the reference's number, or holds its words."""
    meant = normal_forms(reference)
    words = [each for each in meant if isinstance(each, str)]
    return any(any(word in each for word in words) if isinstance(each, str) else each in meant for each in candidates)
