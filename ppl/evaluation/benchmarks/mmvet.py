"""MM-Vet (Yu et al. 2024, arXiv:2308.02490): 218 open questions, marked by a judge from 0 to 1.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.image_files import image, read_json
from ppl.evaluation.items import Item, Shown
from ppl.evaluation.judge import Request
from ppl.evaluation.protocol import Mark, Protocol, Score, Unit
from ppl.evaluation.rows import Row
from ppl.evaluation.scoring import mean_score

_SCORE = {"score": 100.0}
_CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
_MEME = (
    "Can you explain this meme? | This meme is poking fun at the fact that the names of the countries Iceland and "
    "Greenland are misleading. Despite its name, Iceland is known for its beautiful green landscapes, while Greenland "
    "is mostly covered in ice and snow. The meme is saying that the person has trust issues because the names of these "
    "countries do not accurately represent their landscapes. | "
)
_RUBRIC = "\n".join(
    [
        "Compare the ground truth and prediction from AI models, to give a correctness score for the prediction. <AND> "
        "in the ground truth means it is totally right only when all elements in the ground truth are present in the "
        "prediction, and <OR> means it is totally right when any one element in the ground truth is present in the "
        "prediction. The correctness score is 0.0 (totally wrong), 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, or 1.0 "
        "(totally right). Just complete the last space of the correctness score.",
        "gpt_query_prompt | Ground truth | Prediction | Correctness",
        "--- | --- | --- | ---",
        *(
            f"What is x in the equation? | -1 <AND> -5 | {said} | {worth}"
            for said, worth in (
                ("x = 3", "0.0"),
                ("x = -1", "0.5"),
                ("x = -5", "0.5"),
                ("x = -5 or 5", "0.5"),
                ("x = -1 or x = -5", "1.0"),
            )
        ),
        f"{_MEME}The meme talks about Iceland and Greenland. It's pointing out that despite their names, Iceland is "
        "not very icy and Greenland isn't very green. | 0.4",
        f"{_MEME}The meme is using humor to point out the misleading nature of Iceland's and Greenland's names. "
        "Iceland, despite its name, has lush green landscapes while Greenland is mostly covered in ice and snow. The "
        "text 'This is why I have trust issues' is a playful way to suggest that these contradictions can lead to "
        "distrust or confusion. The humor in this meme is derived from the unexpected contrast between the names of "
        "the countries and their actual physical characteristics. | 1.0",
        "",
    ]
)


class MMVet(Benchmark):
    """MM-Vet.

    Args:
        root: Folder ``mm-vet`` with ``mm-vet.json`` and ``images/``, as its authors' archive unpacks.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """Its name."""
        return "mmvet"

    def items(self) -> list[Item]:
        """Read the questions."""
        root = Path(self.root)
        rows = read_json(root / "mm-vet.json", "MM-Vet's questions")
        return [_item(number, row, root) for number, row in rows.items()]


def _item(number: str, row: Mapping[str, Any], root: Path) -> Item:
    return Item(
        id=number,
        media=image(root / "images" / row["imagename"]),
        question=row["question"],
        answer=row["answer"],
        groups={"capabilities": ",".join(sorted(row["capability"]))},
    )


class _Judged(Protocol):
    metrics = _SCORE

    def requests(self, rows: tuple[Row, ...]) -> tuple[Request, ...]:
        """What a judge is asked: to go on with a table of examples."""
        row = rows[0]
        reference = (row.answer or "").replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
        return (Request("", f"{_RUBRIC}\n{row.question} | {reference} | {row.text} |", self._reply_tokens()),)

    def extra_scores(self, units: Sequence[Unit]) -> list[Score]:
        """The mean over the questions that need a capability, for each of the six."""
        members = {
            name: [unit for unit in units if name in unit.rows[0].groups["capabilities"].split(",")]
            for name in _CAPABILITIES
        }
        return [mean_score("score", f"capability={name}", found, 100.0) for name, found in members.items() if found]

    def _reply_tokens(self) -> int:
        return 128


class Lmms(_Judged):
    """As lmms-eval asks and marks it.

    Args:
        reason_first: Ask for reasoning before the question, as it does and nobody else.
        unread_is_zero: Mark 0 where no number could be read of the judge's reply, as it does after some tries; it is
            counted as unparsed too. Otherwise the answer does not count. Without any reply it never counts.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/mmvet, mmvet"
    max_new_tokens = 1024

    def __init__(self, reason_first: bool = True, unread_is_zero: bool = True) -> None:
        self.reason_first = reason_first
        self.unread_is_zero = unread_is_zero

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """The question behind a request to reason."""
        if not self.reason_first:
            return item.question
        request = "First please perform reasoning, and think step by step to provide best answer to the following"
        return f"{request} question: \n\n{item.question}"

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """What the judge gave."""
        return _mark(replies[0], nothing=0.0 if self.unread_is_zero else None)


class Official(_Judged):
    """As its authors ask and mark it; they try until a number comes, so that one that cannot be read does not count."""

    name = "official"
    version = "1"
    source = "yuweihao/MM-Vet c7ff270: mm-vet_evaluator.ipynb; its judge was gpt-4-0613"
    max_new_tokens = 1024

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """The question alone."""
        return item.question

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """What the judge gave."""
        return _mark(replies[0], nothing=None)

    def _reply_tokens(self) -> int:
        return 3


def _mark(reply: str | None, nothing: float | None) -> Mark:
    if reply is None:
        return Mark({"score": None}, None)
    first = reply.strip().split(" ")[0].strip()
    try:
        score = float(first)
    except ValueError:
        return Mark({"score": nothing}, None)
    return Mark({"score": score}, first) if 0 <= score <= 1 else Mark({"score": nothing}, None)
