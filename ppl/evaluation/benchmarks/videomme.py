"""Video-MME (Fu et al. 2024, arXiv:2405.21075): 2700 questions with four options about 900 videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ppl.evaluation.benchmark import Benchmark, required
from ppl.evaluation.choices import ACCURACY, mark_choice
from ppl.evaluation.instructions import LETTER_ANSWER
from ppl.evaluation.items import Item, Medium, Shown
from ppl.evaluation.letters import first_capital
from ppl.evaluation.letters_lmms import ranked_letter
from ppl.evaluation.protocol import Frames, Mark, Protocol
from ppl.evaluation.rows import Row
from ppl.evaluation.subtitles import read_subtitles, spoken_at, tagged_at
from ppl.evaluation.tables import read_parquet

_GROUPS = ("duration", "domain", "sub_category", "task_type")
_COLUMNS = (*_GROUPS, "videoID", "question_id", "question", "options", "answer")
_OF_VIDEO = (
    "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, or D) of the correct option."
)
_OF_SUBTITLES = _OF_VIDEO.replace("the video.", "the video and the subtitles.")


class VideoMME(Benchmark):
    """Video-MME's test split.

    Args:
        root: Folder with ``videomme/test-00000-of-00001.parquet``, ``data/{videoID}.mp4`` and, of 744 of the videos,
            ``subtitle/{videoID}.srt``, as its data set has them.
        duration: Of the videos asked about; null: all.
        num_subtitled: How many of all videos have subtitles, which nothing in its files tells. Where fewer do, those
            without any count as missing, for a protocol that takes subtitles.
    """

    def __init__(
        self, root: str, duration: Literal["short", "medium", "long"] | None = None, num_subtitled: int = 744
    ) -> None:
        self.root = root
        self.duration = duration
        self.num_subtitled = num_subtitled

    @property
    def name(self) -> str:
        """Its name."""
        return "videomme" if self.duration is None else f"videomme-{self.duration}"

    def items(self) -> list[Item]:
        """Read the questions."""
        root = Path(self.root)
        file = required(root / "videomme" / "test-00000-of-00001.parquet", "Video-MME's questions")
        rows = read_parquet(file, _COLUMNS)
        subtitles = {row["videoID"]: str(root / "subtitle" / f"{row['videoID']}.srt") for row in rows}
        there = {video: path for video, path in subtitles.items() if Path(path).exists()}
        named = there if len(there) >= self.num_subtitled else subtitles
        return [_item(row, root, named.get(row["videoID"])) for row in rows if self.duration in (None, row["duration"])]


def _item(row: Mapping[str, str], root: Path, subtitles: str | None) -> Item:
    return Item(
        id=row["question_id"],
        media=(Medium("video", str(root / "data" / f"{row['videoID']}.mp4")),),
        question=row["question"],
        options=tuple(option.partition(". ")[2] for option in row["options"]),
        answer=row["answer"],
        cluster=row["videoID"],
        groups={name: row[name] for name in _GROUPS},
        facts={"options": list(row["options"])},
        files={} if subtitles is None else {"subtitles": subtitles},
    )


class _VideoMMEProtocol(Protocol):
    metrics = ACCURACY
    subtitles: bool

    def files(self, item: Item) -> tuple[str, ...]:
        """Subtitles, if they are said."""
        return tuple(item.files.values()) if self.subtitles else ()

    def guide(self, item: Item) -> str:
        """The question with its options."""
        return "\n".join([item.question, *item.facts["options"]])


class Official(_VideoMMEProtocol):
    """As its authors ask and mark it.

    Args:
        subtitles: Say what is spoken while the sampled frames are shown.
        num_frames: Of each video; its authors leave it to the model.
        drop_unparsed: Leave answers without a letter out of the mean, as their script does; otherwise they are wrong.
    """

    name = "official"
    version = "1"
    source = "MME-Benchmarks/Video-MME 06c2315: README.md; thanku-all/parse_answer: eval_your_results.py"
    max_new_tokens = 16

    def __init__(self, subtitles: bool = False, num_frames: int = 32, drop_unparsed: bool = True) -> None:
        self.subtitles = subtitles
        self.num_frames = num_frames
        self.drop_unparsed = drop_unparsed

    def frames(self, item: Item) -> Frames:
        """As many as asked for."""
        return Frames(self.num_frames)

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Subtitles, if there are any, instruction, question, options, and the beginning of the answer."""
        file = item.files.get("subtitles") if self.subtitles else None
        said = spoken_at(read_subtitles(file), shown[0].times) if file else []
        subtitles = ["This video's subtitles are listed below:", *said] if said else []
        return "\n".join([*subtitles, _OF_VIDEO, item.question, *item.facts["options"], "The best answer is:"])

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """The first capital."""
        return mark_choice(rows[0], first_capital(rows[0].text), unparsed_counts=not self.drop_unparsed)


class Paper(_VideoMMEProtocol):
    """As PPLLaVA's code asks and marks it.

    Args:
        subtitles: Say what is spoken while the sampled frames are shown. The script as published does not: blanks
            behind the backslash before ``--use_subtitles`` cut it off.
        array_options: Write the options as a numpy array prints, as the code does; otherwise one a line.
        drop_unparsed: Leave answers without a letter out of the mean, as the code does; otherwise they are wrong.
        shuffled_subtitles: In the order of a Python set, as the code has them, and only those in Video-MME's font tag;
            otherwise all, as they are spoken.
        subtitles_always_named: Speak of subtitles in the instruction where there are none, as the code does.
    """

    name = "paper"
    version = "1"
    source = "farewellthree/PPLLaVA d5766c8: ppllava/test/video_mme"
    max_new_tokens = 200
    answer_prefix = "The best answer is:"

    def __init__(
        self,
        subtitles: bool = False,
        array_options: bool = True,
        drop_unparsed: bool = True,
        shuffled_subtitles: bool = True,
        subtitles_always_named: bool = True,
    ) -> None:
        self.subtitles = subtitles
        self.array_options = array_options
        self.drop_unparsed = drop_unparsed
        self.shuffled_subtitles = shuffled_subtitles
        self.subtitles_always_named = subtitles_always_named

    def frames(self, item: Item) -> Frames:
        """32 of short videos and 64 of others."""
        return Frames(32 if item.groups["duration"] == "short" else 64, "segments")

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Subtitles, if there are any, instruction, question and options."""
        said = self._said(item, shown[0]) if self.subtitles else ""
        header = f"This video's subtitles are listed below: {said} \n" if said else ""
        instruction = _OF_SUBTITLES if said or self.subtitles_always_named else _OF_VIDEO
        return header + "\n".join([instruction, self.guide(item)])

    def guide(self, item: Item) -> str:
        """The question with its options, as the prompt has them."""
        return f"{item.question}\n{self._options(item)}"

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """The first capital."""
        return mark_choice(rows[0], first_capital(rows[0].text), unparsed_counts=not self.drop_unparsed)

    def _said(self, item: Item, shown: Shown) -> str:
        if "subtitles" not in item.files:
            return ""
        subtitles = read_subtitles(item.files["subtitles"])
        if self.shuffled_subtitles:
            return " ".join(tagged_at(subtitles, shown.indices, shown.fps, shuffled=True))
        return " ".join(spoken_at(subtitles, shown.times))

    def _options(self, item: Item) -> str:
        options = item.facts["options"]
        return str(np.array(options, dtype=object)) if self.array_options else "\n".join(options)


class Lmms(_VideoMMEProtocol):
    """As lmms-eval asks and marks it: ``videomme``, and ``videomme_w_subtitle`` with subtitles.

    Its ``videomme_long`` asks with subtitles, whatever its name says. Answers without a letter are wrong.

    Args:
        subtitles: Say what is spoken at frames that the task itself spaces evenly, whatever the model sees.
        num_frames: Of each video; lmms-eval leaves it to the model.
        subtitle_frames: How many the task spaces.
    """

    name = "lmms"
    version = "1"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/videomme"
    max_new_tokens = 16

    def __init__(self, subtitles: bool = False, num_frames: int = 32, subtitle_frames: int = 32) -> None:
        self.subtitles = subtitles
        self.num_frames = num_frames
        self.subtitle_frames = subtitle_frames

    def frames(self, item: Item) -> Frames:
        """As many as asked for, ends included."""
        return Frames(self.num_frames, "linspace")

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """What the task says to a model that it has no section for."""
        asked = "\n".join([_OF_SUBTITLES, item.question, *item.facts["options"]])
        if not self.subtitles:
            return f"{asked}\n\n{LETTER_ANSWER}"
        said = self._said(item, shown[0])
        return f"This video's subtitles are listed below: \n{said}\n{asked}\nThe best answer is:"

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """The letter in the most telling place."""
        return mark_choice(rows[0], ranked_letter(rows[0].text, "ABCD"))

    def _said(self, item: Item, shown: Shown) -> str:
        if "subtitles" not in item.files:
            return "No subtitles available"
        frames = np.linspace(0, round(shown.duration * shown.fps) - 1, self.subtitle_frames, dtype=int).tolist()
        return "\n".join(tagged_at(read_subtitles(item.files["subtitles"]), frames, shown.fps, shuffled=True))
