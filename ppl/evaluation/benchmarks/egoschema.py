"""EgoSchema (Mangalam et al. 2023, arXiv:2308.09126): 5031 questions with five options about three minutes of video."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppl.evaluation.annotations import read_json_list
from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import ACCURACY
from ppl.evaluation.image_files import read_json
from ppl.evaluation.instructions import LETTER_ANSWER
from ppl.evaluation.items import Item, Medium, Shown, letter
from ppl.evaluation.letters_lmms import egoschema_letter, guessed_letter, mark_or_guess
from ppl.evaluation.protocol import Frames, Mark, Protocol
from ppl.evaluation.rows import Row

_OPTIONS = tuple(f"option {i}" for i in range(5))


class EgoSchema(Benchmark):
    """EgoSchema.

    Args:
        root: Folder with ``questions.json``, ``subset_answers.json`` and ``videos/{q_uid}.mp4``, as its authors have
            them.
        subset: Ask the 500 questions with public answers; otherwise all 5031, whose accuracy is still that of the
            500, for a submission.
    """

    def __init__(self, root: str, subset: bool = True) -> None:
        self.root = root
        self.subset = subset

    @property
    def name(self) -> str:
        """Its name."""
        return "egoschema-subset" if self.subset else "egoschema"

    def items(self) -> list[Item]:
        """Read the questions."""
        root = Path(self.root)
        rows = read_json_list(root / "questions.json", "EgoSchema's questions", ("q_uid", "question", *_OPTIONS))
        file = root / "subset_answers.json"
        known: dict[str, int] = read_json(file, "EgoSchema's public answers")
        lacking = sorted(set(known) - {row["q_uid"] for row in rows})
        if lacking:
            msg = f"got {file} with answers to {lacking[:3]}, which questions.json lacks, expected both of one version"
            raise ValueError(msg)
        return [_item(row, root, known.get(row["q_uid"])) for row in rows if not self.subset or row["q_uid"] in known]


def _item(row: Mapping[str, Any], root: Path, answer: int | None) -> Item:
    return Item(
        id=row["q_uid"],
        media=(Medium("video", str(root / "videos" / f"{row['q_uid']}.mp4")),),
        question=row["question"],
        options=tuple(row[name] for name in _OPTIONS),
        answer=None if answer is None else letter(int(answer)),
        cluster=row["q_uid"],
    )


class Lmms(Protocol):
    """As lmms-eval asks and marks it; its authors publish no prompt.

    Args:
        num_frames: Of each video; lmms-eval leaves it to the model.
        guess: Draw a letter where none can be read, as it does, but the same whenever it is scored; otherwise wrong.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/egoschema"
    metrics = ACCURACY
    max_new_tokens = 16

    def __init__(self, num_frames: int = 32, guess: bool = True) -> None:
        self.num_frames = num_frames
        self.guess = guess

    def frames(self, item: Item) -> Frames:
        """As many as asked for, ends included."""
        return Frames(self.num_frames, "linspace")

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question, options and instruction."""
        return f"{self.guide(item)}\n{LETTER_ANSWER}"

    def guide(self, item: Item) -> str:
        """The question with its options."""
        return "\n".join([item.question, *_lettered(item.options)])

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """The letter whose last place is the earliest."""
        return mark_or_guess(rows[0], _parsed(rows[0]), guess=self.guess)

    def submission(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """All answers as numbers, for the authors' server (JSON) and for Kaggle (CSV); -1 where none could be read.

        Raises:
            ValueError: A question of the 5031 lacks an answer.
        """
        if rows[0].benchmark != "egoschema":
            return {}
        if len(rows) != rows[0].total:
            msg = f"got {len(rows)} of {rows[0].total} answers, expected all of them for a submission: answer the rest"
            raise ValueError(msg)
        chosen = {row.id: self._number(row) for row in rows}
        table = "".join(f"{name},{number}\n" for name, number in chosen.items())
        return {"egoschema.json": json.dumps(chosen, indent=4) + "\n", "egoschema.csv": f"q_uid,answer\n{table}"}

    def _number(self, row: Row) -> int:
        chosen = _parsed(row) or (guessed_letter(row) if self.guess else None)
        return -1 if chosen is None else ord(chosen) - ord("A")


def _parsed(row: Row) -> str | None:
    return egoschema_letter(row.text, _lettered(row.options))


def _lettered(options: Sequence[str]) -> list[str]:
    return [f"{letter(i)}. {option.strip()}" for i, option in enumerate(options)]
