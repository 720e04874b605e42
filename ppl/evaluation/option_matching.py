"""Options in prompts, and which option an answer means, as MMBench and MathVista match them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ppl.evaluation.items import letter

_FORMS = ("{}.", "{},", "{}:", "{})", "{}).", "({})", "({}).", ":{}", ":{},", ":{}.", ":{})", ":{}).")
"""Of a word that names an option, beside the letter alone."""


def lettered(options: Sequence[str], form: str = "{}. {}") -> str:
    """Options with their letters, one a line: ``A. A cat``."""
    return "\n".join(form.format(letter(index), option) for index, option in enumerate(options))


def with_options(question: str, options: Sequence[str]) -> str:
    """A question and its options: what the pooling is guided by."""
    return "\n".join(filter(None, [question, lettered(options)]))


def named_option(answer: str, letters: str = "ABCDE") -> str | None:
    """The option whose letter is a word of the answer: MMBench's ``can_infer_option``.

    (As lmms-eval 0.7.3 has it in ``tasks/mmbench/mmbench_evals.py``.) The letter
    alone counts first, then ``B.``, ``B)``, ``(B)`` and the like, and each only where one letter has it. In an answer
    of more than three words with a lone A that may be an article, no letter alone counts.
    """
    words = answer.split()
    alone = [each for each in letters if each in words]
    if len(alone) == 1 and not ("A" in words and len(words) > 3):
        return alone[0]
    for form in _FORMS:
        found = [each for each in letters if form.format(each) in words]
        if len(found) == 1:
            return found[0]
    return None


def quoted_option(answer: str, options: Mapping[str, str]) -> str | None:
    """The one option whose words the answer repeats, whatever their case: MMBench's ``can_infer_text``.

    Args:
        answer: What was said.
        options: By letter.
    """
    found = [each for each, words in options.items() if words.lower() in answer.lower()]
    return found[0] if len(found) == 1 else None


def inferred_option(answer: str, options: Mapping[str, str]) -> str | None:
    """The option that an answer names or repeats, without asking a judge; None: it is not clear.

    (MMBench's ``can_infer``. E may be named: it stands for "none of them".)
    """
    return named_option(answer) or quoted_option(answer, options)


def closest_option(answer: str, options: Sequence[str]) -> str:
    """The option that takes the fewest edits to become the answer; of several the first: MathVista's rule.

    (lupantech/MathVista, ``evaluation/calculate_score.py``, ``get_most_similar``.) To an answer without a letter that
    is the shortest option.
    """
    return min(options, key=lambda option: edit_distance(answer, option))


def edit_distance(one: str, other: str) -> int:
    """Letters to insert, delete or replace to turn one text into the other (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        above, row = row, [i]
        for j, right in enumerate(other):
            row.append(min(above[j] + (left != right), above[j + 1] + 1, row[j] + 1))
    return row[-1]
