"""What MathVista's questions and the judge that reads the answers are told.

(lupantech/MathVista, ``prompts/ext_ans.py`` and ``build_query.py``; Lu et al. 2024, arXiv:2310.02255, appendix E.
lmms-eval 0.7.3 has them in ``tasks/mathvista/mathvista_evals.py``.)
"""

from __future__ import annotations

from typing import Literal

Hints = Literal["format", "solution", "cot"]
"""lmms-eval's three tasks: a short answer, "Solution:" at the end, and the hint alone."""

_KINDS = {
    "text": "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.",
    "integer": "Hint: Please answer the question requiring an integer answer and provide the final value, e.g., 1, 2, "
    "3, at the end.",
    "float 1": "Hint: Please answer the question requiring a floating-point number with one decimal place and provide "
    "the final value, e.g., 1.2, 1.3, 1.4, at the end.",
    "float 2": "Hint: Please answer the question requiring a floating-point number with two decimal places and provide "
    "the final value, e.g., 1.23, 1.34, 1.45, at the end.",
    "list": "Hint: Please answer the question requiring a Python list as an answer and provide the final list, e.g., "
    "[1, 2, 3], [1.2, 1.3, 1.4], at the end.",
}
_SHORT = {
    "text": "Answer with the option's letter from the given choices directly.",
    "integer": "Answer the question using a single integer number.",
    "float 1": "Answer the question using a single floating-point number with one decimal place.",
    "float 2": "Answer the question using a single floating-point number with two decimal places.",
    "list": "Answer the question using a Python list.",
}
_EXAMPLES = (
    ("integer", "Which number is missing?", "The number missing in the sequence is 14.", "14"),
    (
        "float 1",
        "What is the fraction of females facing the camera?",
        "The fraction of females facing the camera is 0.6, which means that six out of ten females in the group are "
        "facing the camera.",
        "0.6",
    ),
    (
        "float 2",
        "How much money does Luca need to buy a sour apple candy and a butterscotch candy? (Unit: $)",
        "Luca needs $1.45 to buy a sour apple candy and a butterscotch candy.",
        "1.45",
    ),
    (
        "list",
        "Between which two years does the line  graph saw its maximum peak?",
        "The line graph saw its maximum peak between 2007 and 2008.",
        "[2007, 2008]",
    ),
    (
        "text",
        "What fraction of the shape is blue?\nChoices:\n(A) 3/11\n(B) 8/11\n(C) 6/11\n(D) 3/5",
        "The correct answer is (B) 8/11.",
        "B",
    ),
)


def hint(hints: Hints, answer_type: str, precision: float | None) -> str:
    """What kind of answer is asked for.

    Args:
        hints: In which words.
        answer_type: ``text`` (of an option), ``integer``, ``float`` or ``list``.
        precision: Decimal places of a ``float``, 1 or 2.

    Raises:
        ValueError: MathVista has no such answers.
    """
    kind = f"float {precision:g}" if answer_type == "float" and precision is not None else answer_type
    table = _SHORT if hints == "format" else _KINDS
    if kind not in table:
        msg = f"got an answer of type {kind!r}, expected one of {list(table)}: is this MathVista's table?"
        raise ValueError(msg)
    return table[kind]


def extraction_prompt(query: str, response: str) -> str:
    """What a judge is asked: to read the answer out of a response, after five examples."""
    examples = [
        f"{_KINDS[kind]}\nQuestion: {question}\n\nModel response: {said}\n\nExtracted answer: {answer}"
        for kind, question, said, answer in _EXAMPLES
    ]
    request = (
        "Please read the following example. Then extract the answer from the model response and type it at the end"
    )
    return "\n\n".join([f"{request} of the prompt.", *examples, query, response, "Extracted answer: "])
