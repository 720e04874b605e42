"""Read what a judge replied: a Python dictionary or JSON, in a code fence or among prose, or nearly one."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_BRACES = re.compile(r"\{[^{}]*\}", re.DOTALL)
_PAIR = re.compile(r"""['"]*\b([A-Za-z_]\w*)['"]*\s*:\s*(?:(-?\d+(?:\.\d+)?)|'([^']*)'|"([^"]*)"|([A-Za-z]+))""")
_NAMED_NUMBER = r"(?i)\b{}\b['\"*]*\s*(?:is|:|=)\s*['\"*]*(-?\d+(?:\.\d+)?)"


def read_fields(reply: str) -> dict[str, Any] | None:
    """Read the one dictionary of a reply, wherever it stands.

    Python and JSON are read as such. What is neither, like the ``{''score': 4.8}`` that Video-ChatGPT's prompts give as
    the example to follow, is read pair by pair.

    Returns:
        None for a reply without a whole dictionary, or with two that differ.
    """
    found = [fields for text in _BRACES.findall(reply) if (fields := _dictionary(text))]
    return found[0] if found and all(fields == found[0] for fields in found) else None


def read_number(reply: str, name: str, low: int | float, high: int | float) -> float | None:
    """Read a number: of a dictionary, of a phrase like "score: 4", or the whole reply.

    Returns:
        None for a reply that has none, several that differ, or one out of bounds.
    """
    fields = read_fields(reply)
    if fields is not None:
        values = [fields.get(name)]
    elif "{" in reply:
        return None
    else:
        values = re.findall(_NAMED_NUMBER.format(re.escape(name)), reply) or [reply.strip()]
    numbers = {_number(value) for value in values}
    number = numbers.pop()
    return number if not numbers and number is not None and low <= number <= high else None


def read_verdict(reply: str) -> tuple[bool, float] | None:
    """Read ``pred`` (yes or no) and ``score`` (0 to 5) of a reply to Video-ChatGPT's question about an answer.

    (mbzuai-oryx/Video-ChatGPT, ``quantitative_evaluation/evaluate_activitynet_qa.py``.)

    Returns:
        None where either lacks or is something else.
    """
    fields = read_fields(reply)
    if fields is None:
        return None
    verdict = str(fields.get("pred", "")).strip().lower()
    score = _number(fields.get("score"))
    if verdict not in ("yes", "no") or score is None or not 0 <= score <= 5:
        return None
    return verdict == "yes", score


def _dictionary(text: str) -> dict[str, Any] | None:
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    pairs = _PAIR.findall(text)
    return {name: next((value for value in values if value), "") for name, *values in pairs} or None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
