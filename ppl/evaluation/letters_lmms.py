"""Read the letter of an option as lmms-eval 0.7.3 does, benchmark by benchmark; None where it finds none.

Written anew from what its code does (EvolvingLMMs-Lab/lmms-eval, ``lmms_eval/tasks``), which each function names.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from ppl.evaluation.items import letter
from ppl.evaluation.protocol import Mark
from ppl.evaluation.rows import Row

_PHRASES = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is", "the best answer is"),
    *("best answer is", "the correct option is", "correct option is", "the best option is", "best option is"),
    *("the choice is", "choice is", "the correct choice is", "correct choice is"),
    *("i choose", "i select", "i pick", "my answer is", "my choice is"),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
"""What announces a letter."""
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""What the VQA challenge's evaluation removes from answers."""


class _Found(NamedTuple):
    priority: int
    place: int


def ranked_letter(text: str, letters: Sequence[str]) -> str | None:
    """The letter in the most telling place, and of several in such places the last: ``mcq_extract``.

    (``_task_utils/mcq_extract.py``, which Video-MME's task uses since 0.7.2.) A letter that the text begins with on its
    own counts most, then one that it ends with, one behind "the answer is", ``(B)``, ``B.``, ``B:``, ``B)``, ``B `` and
    at last any.
    """
    if not text.strip():
        return None
    bare = text.strip()
    for mark in ",.!?;:'\"":
        bare = bare.strip(mark)
    text = f" {bare} "
    bare = bare.strip()
    found = {each: _best(each, text, bare) for each in letters}
    known = {each: best for each, best in found.items() if best is not None}
    if not known:
        anywhere = {each: text.rfind(each) for each in letters if each in text}
        return max(anywhere, key=anywhere.__getitem__) if anywhere else None
    return max(known, key=known.__getitem__)


def _best(each: str, text: str, bare: str) -> _Found | None:
    found = []
    if bare.startswith(each) and not bare[1:2].isalpha():
        found.append(_Found(10, 0))
    if bare.endswith(each) and not bare[-2:-1].isalpha():
        found.append(_Found(9, len(text) - 1))
    lowered = text.lower()
    announced = [lowered.find(phrase) + len(phrase) for phrase in _PHRASES if phrase in lowered]
    found += [_Found(7, text.find(each, place)) for place in announced if text.find(each, place) >= 0]
    forms = {6: f"({each})", 5: f"{each}.", 4: f"{each}:", 3: f"{each})", 2: f"{each} "}
    found += [_Found(priority, text.rfind(form)) for priority, form in forms.items() if form in text]
    return max(found, default=None)


def mmmu_letter(text: str, options: Sequence[str]) -> str | None:
    """MMMU's ``parse_multi_choice_response`` as NExT-QA's task has it (``nextqa/utils.py``).

    ``(B)``, or else a capital before a space, or else one before a full stop, or else, in texts of more than five
    words, the option's own words. Of several the last is taken: in brackets, or else between spaces, and where none is
    between spaces the first of the alphabet.
    """
    padded = _padded(text)
    letters = [letter(i) for i in range(len(options))]
    for form, place in (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} ")):
        found = [each for each in letters if form.format(each) in padded]
        if found:
            return max(found, key=lambda each, place=place: padded.rfind(place.format(each)))
    return _quoted(padded, options, first=False)


def egoschema_letter(text: str, options: Sequence[str]) -> str | None:
    """MMMU's parser as EgoSchema's task has it (``egoschema/utils.py``).

    Every ``(B)``, ``B `` and ``B.`` is looked for, and the one whose last place is the earliest is taken.

    Args:
        text: What was said.
        options: With their letters, ``A. …``, as the task compares them.
    """
    padded = _padded(text)
    letters = [letter(i) for i in range(len(options))]
    found = [(padded.rfind(form), each) for form, each in _forms(letters) if form in padded]
    if found:
        return min(found, key=lambda pair: pair[0])[1]
    return _quoted(padded, options, first=True)


def _forms(letters: Sequence[str]) -> list[tuple[str, str]]:
    return [(form.format(each), each) for form in ("({})", "{} ", "{}.") for each in letters]


def _padded(text: str) -> str:
    for mark in ",.!?;:'":
        text = text.strip(mark)
    return f" {text} "


def _quoted(padded: str, options: Sequence[str], *, first: bool) -> str | None:
    """The option whose words a text of more than five words repeats."""
    lowered = padded.lower()
    if len(padded.split()) <= 5:
        return None
    places = {letter(i): lowered.rfind(option.lower()) for i, option in enumerate(options) if option.lower() in lowered}
    if not places:
        return None
    return (min if first else max)(places, key=places.__getitem__)


def lone_letter(text: str) -> str | None:
    """A letter from A to E that stands alone, in either case: MVBench's ``mcq_acc`` (``mvbench/utils.py``).

    ``B.`` at the beginning counts first; the article of "a dog" is option A.
    """
    begins = re.match(r"([A-E])\.\s*(.+)$", text.strip(), re.IGNORECASE)
    if begins:
        return begins[1].upper()
    plain = _without_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    for mark in "'\")(":
        plain = plain.strip(mark)
    found = re.search(r"\b([a-e])\b", plain.strip().lower())
    return None if found is None else found[1].upper()


def _without_punctuation(text: str) -> str:
    """The VQA challenge's ``processPunctuation``: marks beside a space vanish, others become one."""
    plain = text
    has_number = re.search(r"\d,\d", text) is not None
    for mark in _PUNCTUATION:
        vanishes = f"{mark} " in text or f" {mark}" in text or has_number
        plain = plain.replace(mark, "" if vanishes else " ")
    return re.sub(r"\.(?!\d)", "", plain, count=re.UNICODE.value)


def mark_or_guess(row: Row, parsed: str | None, *, guess: bool) -> Mark:
    """1 for the letter of the reference; where none was read, a guess that is the same whenever it is scored.

    lmms-eval draws it from one stream for all questions, so that its own scores move with their order.

    Args:
        row: The answer.
        parsed: The letter that was read.
        guess: Draw one where none was read; otherwise the answer is wrong.
    """
    if row.answer is None:
        return Mark({"accuracy": None}, parsed)
    chosen = guessed_letter(row) if parsed is None and guess else parsed
    return Mark({"accuracy": float(chosen == row.answer)}, parsed)


def guessed_letter(row: Row) -> str:
    """One of the question's letters, drawn with the question's own name as the seed."""
    return letter(random.Random(row.id).randrange(len(row.options)))
