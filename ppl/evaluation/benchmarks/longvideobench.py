"""LongVideoBench (Wu et al. 2024, arXiv:2407.15754): questions about up to an hour of video and its subtitles."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ppl.evaluation.annotations import read_json_list
from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import ACCURACY
from ppl.evaluation.image_files import read_json
from ppl.evaluation.instructions import LETTER_ANSWER
from ppl.evaluation.items import MEDIA_MARK, Item, Medium, Shown, letter
from ppl.evaluation.letters import first_capital_of_five
from ppl.evaluation.letters_lmms import mark_or_guess
from ppl.evaluation.protocol import Frames, Mark, Protocol
from ppl.evaluation.rows import Row
from ppl.evaluation.subtitles import Subtitle

_FILES = {"val": "lvb_val.json", "test": "lvb_test_wo_gt.json"}
_FIELDS = (
    *("id", "video_id", "video_path", "subtitle_path", "question", "candidates", "duration", "duration_group"),
    *("question_category", "topic_category", "starting_timestamp_for_subtitles"),
)


class LongVideoBench(Benchmark):
    """LongVideoBench.

    Args:
        root: Folder with ``lvb_val.json`` or ``lvb_test_wo_gt.json``, ``videos/`` and ``subtitles/``, as its data set
            has them.
        split: ``test`` has no public answers.
    """

    def __init__(self, root: str, split: Literal["val", "test"] = "val") -> None:
        self.root = root
        self.split = split

    @property
    def name(self) -> str:
        """Its name."""
        return f"longvideobench-{self.split}"

    def items(self) -> list[Item]:
        """Read the questions."""
        rows = read_json_list(Path(self.root) / _FILES[self.split], "LongVideoBench's questions", _FIELDS)
        return [self._item(row) for row in rows]

    def _item(self, row: Mapping[str, Any]) -> Item:
        root = Path(self.root)
        correct = row.get("correct_choice", -1)
        return Item(
            id=row["id"],
            media=(Medium("video", str(root / "videos" / row["video_path"])),),
            question=row["question"],
            options=tuple(row["candidates"]),
            answer=letter(correct) if correct >= 0 else None,
            cluster=row["video_id"],
            groups={
                "duration": str(row["duration_group"]),
                "category": row["question_category"],
                "topic": row["topic_category"],
            },
            facts={"subtitles_from": row["starting_timestamp_for_subtitles"], "duration": row["duration"]},
            files={"subtitles": str(root / "subtitles" / row["subtitle_path"])},
        )


def spoken(item: Item) -> list[Subtitle]:
    """The subtitles of a question's video, in seconds from its beginning.

    They come in two forms: ``{"start": "00:00:01.000", "end": …, "line": …}`` and ``{"timestamp": [0.0, 1.5], "text":
    …}``. An end that is missing is the video's, from which the authors subtract the beginning like from any other.
    """
    entries = read_json(Path(item.files["subtitles"]), "LongVideoBench's subtitles of a video")
    first, duration = item.facts["subtitles_from"], item.facts["duration"]
    said = []
    for entry in entries:
        if "timestamp" in entry:
            start, end = entry["timestamp"]
            end, text = end if isinstance(end, float) else duration, entry["text"]
        else:
            start, end, text = _seconds(entry["start"]), _seconds(entry["end"]), entry["line"]
        said.append(Subtitle(start - first, end - first, text))
    return said


def interleave(times: Sequence[float], subtitles: Iterable[Subtitle]) -> list[str]:
    """Marks of the frames with what is said between them.

    A subtitle that no frame falls into is left out; one comes before the first frame that is shown later than its
    middle, and counts as lasting a second at least (longvideobench/LongVideoBench, ``longvideobench_dataset.py``).

    Args:
        times: When the frames are shown, in order.
        subtitles: In the order of the file.
    """
    pieces: list[str] = []
    place = 0
    for start, end, text in subtitles:
        middle = (start + end) / 2
        while place < len(times) and times[place] <= middle:
            pieces.append(MEDIA_MARK)
            place += 1
        if end - start < 1:
            start, end = middle - 0.5, middle + 0.5
        if any(start < time < end for time in times):
            pieces.append(text)
    return [*pieces, *[MEDIA_MARK] * (len(times) - place)]


def _seconds(stamp: str) -> float:
    hours, minutes, seconds = stamp.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


class _LongVideoBenchProtocol(Protocol):
    metrics = ACCURACY
    max_new_tokens = 32
    subtitles: bool

    def files(self, item: Item) -> tuple[str, ...]:
        """Subtitles, if they are said."""
        return tuple(item.files.values()) if self.subtitles else ()

    def guide(self, item: Item) -> str:
        """The question with its options."""
        return "\n".join([item.question, *_lettered(item)])

    def submission(self, rows: Sequence[Row]) -> Mapping[str, str]:
        """What was said to each question of the test split, as lmms-eval writes it for the authors' leaderboard."""
        if any(row.answer is not None for row in rows):
            return {}
        return {"longvideobench_test_for_submission.json": json.dumps({row.id: row.text for row in rows}) + "\n"}


class Official(_LongVideoBenchProtocol):
    """As its authors' loader asks it: frames, with what is said between them, then the question.

    Answers without a letter are wrong; the authors guess.

    Args:
        num_frames: The most of each video; the authors' examples take 64.
        subtitles: Say what is spoken between the frames.
    """

    name = "official"
    version = "1"
    source = "longvideobench/LongVideoBench fc3c553: longvideobench/longvideobench_dataset.py"

    def __init__(self, num_frames: int = 64, subtitles: bool = True) -> None:
        self.num_frames = num_frames
        self.subtitles = subtitles

    def frames(self, item: Item) -> Frames:
        """At most one a second, each an image of its own."""
        return Frames(self.num_frames, "starts", apart=True)

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Frames and subtitles, question, options and instruction."""
        frames = interleave(shown[0].times, spoken(item) if self.subtitles else ())
        return "\n".join([*frames, f"Question: {item.question}", *_lettered(item), LETTER_ANSWER])

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """The first capital."""
        return mark_or_guess(rows[0], first_capital_of_five(rows[0].text), guess=False)


class Lmms(_LongVideoBenchProtocol):
    """As lmms-eval asks and marks it: ``_v``, a video without subtitles, or ``_i``, frames with what is said between.

    Args:
        num_frames: Of each video; lmms-eval leaves it to the model, or takes 16 with subtitles, one a second at most.
        subtitles: Ask as ``longvideobench_val_i``.
        guess: Draw a letter where none can be read, as it does, but the same whenever it is scored; otherwise wrong.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/longvideobench"

    def __init__(self, num_frames: int = 32, subtitles: bool = False, guess: bool = True) -> None:
        self.num_frames = num_frames
        self.subtitles = subtitles
        self.guess = guess

    def frames(self, item: Item) -> Frames:
        """As many as asked for, ends included; with subtitles, images at the beginnings of equal segments."""
        return Frames(self.num_frames, "starts", apart=True) if self.subtitles else Frames(self.num_frames, "linspace")

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Frames and subtitles, question, options and instruction."""
        asked = f"{self.guide(item)}\n{LETTER_ANSWER}\n"
        if not self.subtitles:
            return asked
        count, duration = len(shown[0].times), item.facts["duration"]
        step = duration / self.num_frames if duration > self.num_frames else 1.0
        return "\n".join([*interleave([i * step for i in range(count)], spoken(item)), asked])

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """The first capital."""
        return mark_or_guess(rows[0], first_capital_of_five(rows[0].text), guess=self.guess)


def _lettered(item: Item) -> list[str]:
    return [f"{letter(i)}. {option}" for i, option in enumerate(item.options)]
