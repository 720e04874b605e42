"""NExT-QA (Xiao et al. 2021, arXiv:2105.08276): causal, temporal and descriptive questions, with options or open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from ppl.evaluation.annotations import find_video, read_csv
from ppl.evaluation.benchmark import Benchmark, required
from ppl.evaluation.choices import ACCURACY
from ppl.evaluation.image_files import read_json
from ppl.evaluation.items import Item, Medium, Shown, letter
from ppl.evaluation.letters_lmms import mark_or_guess, mmmu_letter
from ppl.evaluation.protocol import Frames, Mark, Protocol
from ppl.evaluation.rows import Row
from ppl.evaluation.text_metrics import content_words, exact_match, token_f1, wups

_KINDS = {"C": "causal", "T": "temporal", "D": "descriptive"}
_FIELDS = ("video", "question", "answer", "qid", "type")
_OPTIONS = ("a0", "a1", "a2", "a3", "a4")
_OPEN_METRICS = {"wups_0": 100.0, "wups_0.9": 100.0, "exact_match": 100.0, "token_f1": 100.0}
_EXACT_TYPES = ("DB", "DC")
"""Yes or no, and numbers: what is not the reference is wrong (doc-doc/NExT-OE, ``eval_oe.py``)."""


class NExTQA(Benchmark):
    """NExT-QA.

    Args:
        root: Folder with the authors' repositories ``NExT-QA`` (five options) or ``NExT-OE`` (open), whose
            ``dataset/nextqa/{split}.csv`` is read, and with the videos in ``NExTVideo``: ``{video}.mp4``, or in the
            folders that ``map_vid_vidorID.json`` beside the table names.
        task: ``mc``: a choice of five; ``oe``: open-ended.
        split: Of the table.
    """

    def __init__(
        self, root: str, task: Literal["mc", "oe"] = "mc", split: Literal["train", "val", "test"] = "test"
    ) -> None:
        self.root = root
        self.task = task
        self.split = split

    @property
    def name(self) -> str:
        """Its name."""
        return f"nextqa-{self.task}-{self.split}"

    def items(self) -> list[Item]:
        """Read the questions."""
        folder = Path(self.root) / ("NExT-QA" if self.task == "mc" else "NExT-OE") / "dataset" / "nextqa"
        fields = (*_FIELDS, *_OPTIONS) if self.task == "mc" else _FIELDS
        rows = read_csv(folder / f"{self.split}.csv", "NExT-QA's questions", fields)
        places = _json(folder / "map_vid_vidorID.json")
        others = _json(folder / f"add_reference_answer_{self.split}.json") if self.task == "oe" else {}
        return [self._item(row, places, others.get(row["video"], {}).get(row["qid"])) for row in rows]

    def _item(self, row: Mapping[str, str], places: Mapping[str, str], other: str | None) -> Item:
        videos = required(Path(self.root) / "NExTVideo", "NExT-QA's videos")
        kind = row["type"].replace("TP", "TN")  # counted together, as eval_mc.py and eval_oe.py do
        choice = self.task == "mc"
        return Item(
            id=f"{row['video']}_{row['qid']}",
            media=(Medium("video", find_video(videos, places.get(row["video"], row["video"]))),),
            question=row["question"].strip(),
            options=tuple(row[name].strip() for name in _OPTIONS) if choice else (),
            answer=letter(int(row["answer"])) if choice else row["answer"],
            answers=() if choice or other is None else (row["answer"], other),
            cluster=row["video"],
            groups={"kind": _KINDS[kind[0]], "type": kind},
        )


def _json(file: Path) -> dict:
    return read_json(file, "what NExT-QA's authors distribute beside its questions") if file.exists() else {}


class _NExTQAProtocol(Protocol):
    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/nextqa"
    num_frames: int

    def frames(self, item: Item) -> Frames:
        """As many as asked for, ends included."""
        return Frames(self.num_frames, "linspace")


class Lmms(_NExTQAProtocol):
    """As lmms-eval asks and marks the choice of five: without any instruction.

    It sets no limit of new tokens; models bring their own.

    Args:
        num_frames: Of each video; lmms-eval leaves it to the model.
        guess: Draw a letter where none can be read, as it does, but the same whenever it is scored; otherwise wrong.
    """

    metrics = ACCURACY
    max_new_tokens = 64

    def __init__(self, num_frames: int = 32, guess: bool = True) -> None:
        self.num_frames = num_frames
        self.guess = guess

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question and options."""
        return "\n".join([item.question, *(f"{letter(i)}. {option}" for i, option in enumerate(item.options))])

    def guide(self, item: Item) -> str:
        """The question with its options."""
        return self.prompt(item, ())

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """MMMU's parser."""
        return mark_or_guess(rows[0], mmmu_letter(rows[0].text, rows[0].options), guess=self.guess)


class LmmsOpen(_NExTQAProtocol):
    """As lmms-eval asks and marks the open-ended questions, with the authors' WUPS at 0.

    WUPS at 0.9 is beside it, of both references at 0.9 as the authors' script has it: lmms-eval compares the second at
    0, and does not report it.

    Args:
        num_frames: Of each video; lmms-eval leaves it to the model.
    """

    metrics = _OPEN_METRICS
    max_new_tokens = 64

    def __init__(self, num_frames: int = 32) -> None:
        self.num_frames = num_frames

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question and instruction."""
        return f"{item.question}\nAnswer a question using a short phrase or sentence."

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """How alike the words are, of the reference that is more alike."""
        row = rows[0]
        references = row.answers or [row.answer or ""]
        exact = row.groups["type"] in _EXACT_TYPES
        values: dict[str, float | None] = {
            "wups_0": max(_wups(row.text, each, 0.0, exact=exact) for each in references),
            "wups_0.9": max(_wups(row.text, each, 0.9, exact=exact) for each in references),
            "exact_match": max(exact_match(row.text, each) for each in references),
            "token_f1": max(token_f1(row.text, each) for each in references),
        }
        return Mark(values, row.text.strip() or None)


def _wups(said: str, answer: str, threshold: float, *, exact: bool) -> float:
    return float(content_words(said) == content_words(answer)) if exact else wups(said, answer, threshold)
