"""POPE (Li et al. 2023, arXiv:2305.10355): yes or no to whether an object is in an image, 3000 questions three times.

There is no ``paper`` protocol: PPLLaVA's authors released no code for image benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import ACCURACY, mark_choice
from ppl.evaluation.image_files import image, read_json_lines
from ppl.evaluation.instructions import SHORT_ANSWER
from ppl.evaluation.items import Item, Shown
from ppl.evaluation.protocol import Mark, Protocol, Score, Unit
from ppl.evaluation.rows import Row
from ppl.evaluation.yes_no import exact_yes_no, no_or_else_yes, word_yes_no

_CATEGORIES = ("random", "popular", "adversarial")


class Pope(Benchmark):
    """POPE on COCO, its three ways to choose absent objects.

    Args:
        root: Folder with ``coco_pope_{random,popular,adversarial}.json``, JSON lines, as its repository has them in
            ``output/coco``, and COCO's ``val2014/``.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def name(self) -> str:
        """Its name."""
        return "pope"

    def items(self) -> list[Item]:
        """Read the questions."""
        root = Path(self.root)
        files = {kind: root / f"coco_pope_{kind}.json" for kind in _CATEGORIES}
        tables = {kind: read_json_lines(file, "POPE's questions") for kind, file in files.items()}
        return [_item(kind, row, root) for kind, rows in tables.items() for row in rows]


def _item(kind: str, row: Mapping[str, Any], root: Path) -> Item:
    return Item(
        id=f"{kind}-{row['question_id']}",
        media=image(root / "val2014" / row["image"]),
        question=row["text"].strip(),
        answer=row["label"].lower().strip(),
        cluster=row["image"],
        groups={"category": kind},
    )


class Lmms(Protocol):
    """As lmms-eval asks and marks it.

    Args:
        exact: Count nothing but the word as yes or no, as it does ("Yes." is neither); otherwise the first word.
        unread_recalled: Leave answers that are neither out of recall, as it does; otherwise they miss the object.
        ratio_of_truth: Give the share of yes among the references as ``yes_ratio``, as it does; otherwise among the
            answers.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/pope, pope"
    metrics = ACCURACY
    max_new_tokens = 128

    def __init__(self, exact: bool = True, unread_recalled: bool = True, ratio_of_truth: bool = True) -> None:
        self.exact = exact
        self.unread_recalled = unread_recalled
        self.ratio_of_truth = ratio_of_truth

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question and instruction."""
        return f"{item.question}\n{SHORT_ANSWER}"

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """1 for the reference."""
        text = rows[0].text
        return mark_choice(rows[0], exact_yes_no(text) if self.exact else word_yes_no(text))

    def extra_scores(self, units: Sequence[Unit]) -> list[Score]:
        """Precision, recall, F1 and share of yes, in percent: of all, and of each category; 0 where there is no yes."""
        found = []
        for group, members in _groups(units):
            counts = _count(members)
            missed = counts.missed + (0 if self.unread_recalled else counts.unread_present)
            ratio = counts.present if self.ratio_of_truth else counts.said_yes
            found += [
                *_ratios(group, counts.right_yes, counts.said_yes, missed, nothing=0.0),
                Score("yes_ratio", group, 100 * ratio / len(members), len(members)),
            ]
        return found


class Llava(Protocol):
    """As LLaVA's scripts ask it, and as they and POPE's authors mark it: what does not say no says yes.

    Args:
        else_yes: Take what does not say no for yes, as they do, even an empty answer; otherwise the first word tells.
    """

    name = "llava"
    version = "1"
    source = "haotian-liu/LLaVA 4241f08: docs/Evaluation.md, llava/eval/eval_pope.py; AoiDragon/POPE: evaluate.py"
    metrics = ACCURACY
    max_new_tokens = 128

    def __init__(self, else_yes: bool = True) -> None:
        self.else_yes = else_yes

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question and instruction."""
        return f"{item.question}\n{SHORT_ANSWER}"

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """1 for the reference."""
        text = rows[0].text
        return mark_choice(rows[0], no_or_else_yes(text) if self.else_yes else word_yes_no(text))

    def extra_scores(self, units: Sequence[Unit]) -> list[Score]:
        """Precision, recall, F1 and share of yes, in percent; none where there is no yes, which stops their script."""
        found = []
        for group, members in _groups(units):
            counts = _count(members)
            missed = counts.missed + counts.unread_present
            found += [
                *_ratios(group, counts.right_yes, counts.said_yes, missed, nothing=None),
                Score("yes_ratio", group, 100 * counts.said_yes / len(members), len(members)),
            ]
        return found


class _Counts(NamedTuple):
    right_yes: int
    said_yes: int
    missed: int
    unread_present: int
    present: int


def _count(units: Sequence[Unit]) -> _Counts:
    pairs = [(unit.mark.parsed, unit.rows[0].answer) for unit in units]
    return _Counts(
        right_yes=pairs.count(("yes", "yes")),
        said_yes=sum(said == "yes" for said, _ in pairs),
        missed=pairs.count(("no", "yes")),
        unread_present=pairs.count((None, "yes")),
        present=sum(truth == "yes" for _, truth in pairs),
    )


def _groups(units: Sequence[Unit]) -> Iterator[tuple[str, list[Unit]]]:
    if units:
        yield "overall", list(units)
    for kind in _CATEGORIES:
        members = [unit for unit in units if unit.rows[0].groups["category"] == kind]
        if members:
            yield f"category={kind}", members


def _ratios(group: str, right: int, said: int, missed: int, nothing: float | None) -> list[Score]:
    precision = 100 * right / said if said else nothing
    recall = 100 * right / (right + missed) if right + missed else nothing
    f1 = 200 * right / (said + right + missed) if right else nothing
    return [
        Score("precision", group, precision, said),
        Score("recall", group, recall, right + missed),
        Score("f1", group, f1, said + right + missed),
    ]
