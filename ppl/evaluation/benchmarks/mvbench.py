"""MVBench (Li et al. 2024, arXiv:2311.17005): 200 questions with two to five options for each of 20 tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from ppl.evaluation.annotations import read_json_list
from ppl.evaluation.benchmark import Benchmark
from ppl.evaluation.choices import ACCURACY, mark_choice
from ppl.evaluation.items import Item, Medium, Shown, letter
from ppl.evaluation.letters import leading_letter, matches_option
from ppl.evaluation.letters_lmms import lone_letter
from ppl.evaluation.protocol import Frames, Mark, Protocol, Score, Unit
from ppl.evaluation.rows import Row

_SYSTEM = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
    "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
    "addresses the question.\n"
)


class _Task(NamedTuple):
    videos: str
    """Folder of its videos."""
    clips: bool = False
    """Whether its questions are about parts of them, from ``start`` to ``end``."""
    cut: str = ""
    """Folder of these parts in the revision where they are videos of their own, if it is another."""
    fps: float | None = None
    """Of videos that are folders of frames."""


TASKS: dict[str, _Task] = {
    "action_sequence": _Task("star/Charades_v1_480", clips=True, cut="star/Charades_segment"),
    "action_prediction": _Task("star/Charades_v1_480", clips=True, cut="star/Charades_segment"),
    "action_antonym": _Task("ssv2_video", cut="ssv2_video_mp4"),
    "fine_grained_action": _Task("Moments_in_Time_Raw/videos"),
    "unexpected_action": _Task("FunQA_test/test"),
    "object_existence": _Task("clevrer/video_validation"),
    "object_interaction": _Task("star/Charades_v1_480", clips=True, cut="star/Charades_segment"),
    "object_shuffle": _Task("perception/videos"),
    "moving_direction": _Task("clevrer/video_validation"),
    "action_localization": _Task("sta/sta_video", clips=True, cut="sta/sta_video_segment"),
    "scene_transition": _Task("scene_qa/video"),
    "action_count": _Task("perception/videos"),
    "moving_count": _Task("clevrer/video_validation"),
    "moving_attribute": _Task("clevrer/video_validation"),
    "state_change": _Task("perception/videos"),
    "fine_grained_pose": _Task("nturgbd", cut="nturgbd_convert"),
    "character_order": _Task("perception/videos"),
    "egocentric_navigation": _Task("vlnqa"),
    "episodic_reasoning": _Task("tvqa/frames_fps3_hq", clips=True, cut="tvqa/video_fps3_hq_segment", fps=3.0),
    "counterfactual_inference": _Task("clevrer/video_validation"),
}
"""Where the authors' code looks for each task's videos (OpenGVLab/Ask-Anything, ``video_chat2/mvbench.ipynb``), and
where lmms-eval 0.7.3 looks in revision ``video`` (``tasks/mvbench/utils.py``)."""


class MVBench(Benchmark):
    """MVBench.

    Args:
        root: Folder with ``json/{task}.json`` and, below ``video/``, the tasks' folders, as its data set has them.
        tasks: Which of its 20 tasks; null: all.
        cut: Read revision ``video`` of the data set, where the clips are videos of their own, as lmms-eval does.
    """

    def __init__(self, root: str, tasks: list[str] | None = None, cut: bool = False) -> None:
        unknown = sorted(set(tasks or ()) - set(TASKS))
        if unknown:
            msg = f"got tasks {unknown}, expected some of {sorted(TASKS)}: correct benchmark.tasks"
            raise ValueError(msg)
        self.root = root
        self.tasks = tasks
        self.cut = cut

    @property
    def name(self) -> str:
        """Its name."""
        return "mvbench" if self.tasks is None else "-".join(["mvbench", *self.tasks])

    def items(self) -> list[Item]:
        """Read the questions."""
        return [item for task in self.tasks or TASKS for item in self._items(task)]

    def _items(self, task: str) -> list[Item]:
        file = Path(self.root) / "json" / f"{task}.json"
        rows = read_json_list(file, "MVBench's questions", ("video", "question", "candidates", "answer"))
        return [self._item(row, task, index) for index, row in enumerate(rows)]

    def _item(self, row: Mapping[str, Any], task: str, index: int) -> Item:
        kind, options = TASKS[task], tuple(row["candidates"])
        if row["answer"] not in options:
            msg = f"got {task} {index} with the answer {row['answer']!r}, expected one of {options}: is the file whole?"
            raise ValueError(msg)
        folder = (kind.cut if self.cut else "") or kind.videos
        path = str(Path(self.root) / "video" / folder / row["video"])
        bounds = _bounds(row, kind.fps) if kind.clips and not self.cut else (None, None)
        medium = Medium("video", path, *bounds, fps=None if self.cut else kind.fps)
        return Item(
            id=f"{task}-{index}",
            media=(medium,),
            question=row["question"],
            options=options,
            answer=letter(options.index(row["answer"])),
            cluster=f"{folder}/{row['video']}",
            groups={"task": task},
        )


def _bounds(row: Mapping[str, Any], fps: float | None) -> tuple[float, float]:
    """Seconds of a clip; of a folder, whose frame number 1 is our first, those of the numbers that its authors take."""
    start, end = float(row["start"]), float(row["end"])
    return (start, end) if fps is None else (max(0, round(start * fps) - 1) / fps, (round(end * fps) - 1) / fps)


class _MVBenchProtocol(Protocol):
    metrics = ACCURACY

    def guide(self, item: Item) -> str:
        """The question with its options."""
        return _question(item)

    def extra_scores(self, units: Sequence[Unit]) -> list[Score]:
        """The mean of the tasks' means, which is that of the answers where all have as many."""
        tasks: dict[str, list[float]] = {}
        for unit in units:
            value = unit.mark.values["accuracy"]
            if value is not None:
                tasks.setdefault(unit.rows[0].groups["task"], []).append(value)
        mean = 100 * fmean(fmean(values) for values in tasks.values()) if tasks else None
        return [Score("mean_of_tasks", "overall", mean, len(tasks))]


class Official(_MVBenchProtocol):
    """As its authors ask and mark it: the first line of the answer counts.

    Args:
        num_frames: Of each video; 16 for the authors' own model.
        lenient: Compare as `matches_option`, as they do; otherwise a letter must come first.
    """

    name = "official"
    version = "2"
    source = "OpenGVLab/Ask-Anything 4dd8210: video_chat2/mvbench.ipynb"
    max_new_tokens = 100
    answer_prefix = "Best option:("

    def __init__(self, num_frames: int = 16, lenient: bool = True) -> None:
        self.num_frames = num_frames
        self.lenient = lenient

    def system(self, item: Item) -> str | None:
        """The instruction, which the user's turn repeats."""
        return _SYSTEM.strip()

    def frames(self, item: Item) -> Frames:
        """As many as asked for."""
        return Frames(self.num_frames, "segments")

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Instruction, question and options."""
        return f"{_SYSTEM}{_question(item)}\nOnly give the best option."

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """What begins the answer's first line."""
        return _mark(rows[0], rows[0].text.strip().split("\n")[0], lenient=self.lenient)


class Paper(_MVBenchProtocol):
    """As PPLLaVA's code asks and marks it.

    Args:
        system_prompt: Begin with the authors' instruction. The script as published does not: its ``--system_llm``
            switches it off.
        lenient: Compare as `matches_option`, as the code does; otherwise a letter must come first.
    """

    name = "paper"
    version = "2"
    source = "farewellthree/PPLLaVA d5766c8: ppllava/test/mvbench, script/inference/mvbench/test_mvbench.sh"
    max_new_tokens = 200
    answer_prefix = "Best option:("

    def __init__(self, system_prompt: bool = False, lenient: bool = True) -> None:
        self.system_prompt = system_prompt
        self.lenient = lenient

    def frames(self, item: Item) -> Frames:
        """32."""
        return Frames(32, "segments")

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question and options."""
        return f"{_SYSTEM if self.system_prompt else ''}{_question(item)}\nOnly give the best option."

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """What begins the answer."""
        return _mark(rows[0], rows[0].text.strip(), lenient=self.lenient)


class Lmms(_MVBenchProtocol):
    """As lmms-eval asks and marks it, which prints no mean over the tasks.

    Args:
        num_frames: Of each video; lmms-eval leaves it to the model.
        drop_empty: Leave empty answers out of the mean, as it does; otherwise they are wrong.
    """

    name = "lmms"
    version = "2"
    source = "EvolvingLMMs-Lab/lmms-eval 0.7.3: tasks/mvbench"
    max_new_tokens = 16

    def __init__(self, num_frames: int = 32, drop_empty: bool = True) -> None:
        self.num_frames = num_frames
        self.drop_empty = drop_empty

    def frames(self, item: Item) -> Frames:
        """As many as asked for, ends included."""
        return Frames(self.num_frames, "linspace")

    def prompt(self, item: Item, shown: Sequence[Shown]) -> str:
        """Question and options."""
        options = "".join(f"({letter(i)}) {option}\n" for i, option in enumerate(item.options))
        return f"Question:{item.question}\nOption:\n{options}Only give the best option.\n"

    def mark(self, rows: tuple[Row, ...], replies: Sequence[str | None]) -> Mark:
        """A letter that stands alone."""
        if rows[0].text.strip() == "" and self.drop_empty:
            return Mark({"accuracy": None}, None)
        parsed = lone_letter(rows[0].text)
        return Mark({"accuracy": float(parsed == rows[0].answer)}, parsed)


def _question(item: Item) -> str:
    options = "\n".join(f"({letter(i)}) {option}" for i, option in enumerate(item.options))
    return f"Question: {item.question}\nOptions:\n{options}".rstrip()


def _mark(row: Row, text: str, *, lenient: bool) -> Mark:
    if not lenient:
        return mark_choice(row, leading_letter(text))
    meant = [name for name in map(letter, range(len(row.options))) if matches_option(f"({text}", name)]
    return Mark({"accuracy": float(row.answer in meant)}, text.split(" ")[0] if text and meant else None)
