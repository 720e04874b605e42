"""Read yes or no out of an answer; every benchmark's authors do it in their own way."""

from __future__ import annotations

import re
from typing import Literal

YesNo = Literal["yes", "no"]


def exact_yes_no(text: str) -> YesNo | None:
    """Nothing but the word, in either case: POPE in lmms-eval 0.7.3 (``tasks/pope/utils.py``). "Yes." is neither."""
    said = text.lower().strip()
    return said if said in ("yes", "no") else None


def word_yes_no(text: str) -> YesNo | None:
    """The first word, if it is yes or no, whatever follows it: ours, the sane form of the others."""
    found = re.match(r"\W*(yes|no)\b", text.lower())
    return None if found is None else ("yes" if found[1] == "yes" else "no")


def no_or_else_yes(text: str) -> YesNo:
    """No if the first sentence has the word no, No or not, and yes whatever else it says, even nothing.

    (AoiDragon/POPE, ``evaluate.py``; haotian-liu/LLaVA's ``llava/eval/eval_pope.py`` is the same.) "NO" is yes.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def beginning_yes_no(text: str) -> YesNo | None:
    """Yes or no within the first four letters, or y or n alone: MME's ``parse_pred_ans``.

    (MME's ``eval_tool/calculation.py``, which has it from Otter; lmms-eval 0.7.3 too, ``tasks/mme/utils.py``, after
    removing full stops.) "None" and "I know" are no.
    """
    said = text.lower().strip().replace(".", "")
    if len(said) == 1:
        return {"y": "yes", "n": "no"}.get(said)  # pyright: ignore[reportReturnType]
    return "yes" if "yes" in said[:4] else "no" if "no" in said[:4] else None
