import numpy as np
import pytest
from PIL import Image

from ppl.datamodules.benchmark_samples import medium_ref
from ppl.datamodules.frame_folders import read_frames
from ppl.datamodules.frame_sampling import SegmentIndices
from ppl.evaluation.benchmarks.mvbench import TASKS, Lmms, MVBench, Official, Paper
from ppl.evaluation.protocol import Frames
from tests.evaluation.made_up_rows import answer, scores, write_json

SYSTEM = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
    "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
    "addresses the question.\n"
)
ASKED = "Question: What?\nOptions:\n(A) a cup\n(B) a box."


@pytest.fixture
def root(tmp_path):
    """Three questions of one task and one of each other."""
    for task in TASKS:
        row = {"video": f"{task}.mp4", "question": "What?", "candidates": ["a cup", "a box."], "answer": "a box."}
        bounds = {"start": 1.5, "end": 4} if TASKS[task].clips else {}
        write_json(tmp_path / "json" / f"{task}.json", [row | bounds] * (3 if task == "action_count" else 1))
    return tmp_path


def test_there_are_twenty_tasks_of_which_five_are_about_clips(root):
    items = MVBench(str(root)).items()
    assert len({item.groups["task"] for item in items}) == len(TASKS) == 20
    clips = {item.groups["task"] for item in items if item.media[0].start is not None}
    assert clips == {
        *("action_sequence", "action_prediction", "object_interaction", "action_localization", "episodic_reasoning")
    }
    by_task = {item.groups["task"]: item for item in items}
    frames = by_task["episodic_reasoning"].media[0]
    assert (frames.kind, frames.fps) == ("video", 3.0)
    assert frames.path == str(root / "video/tvqa/frames_fps3_hq/episodic_reasoning.mp4")
    assert by_task["action_count"].answer == "B"
    cut = MVBench(str(root), tasks=["episodic_reasoning"], cut=True).items()[0].media[0]
    assert (cut.path, cut.start, cut.fps) == (
        str(root / "video/tvqa/video_fps3_hq_segment/episodic_reasoning.mp4"),
        None,
        None,
    )


@pytest.mark.parametrize(("start", "end"), [(0, 3.0), (0.5, 4.9), (1.5, 12.5), (5.01, 30.0), (2.34, 100.0)])
@pytest.mark.parametrize("number", [4, 16])
def test_frames_of_a_folder_are_those_that_the_authors_number(tmp_path, start, end, number):
    """Of files 1 … 45, each as bright as its number, ``read_frame`` takes those that ``get_index`` gives.

    (OpenGVLab/Ask-Anything 4dd8210, ``video_chat2/mvbench.ipynb``; farewellthree/PPLLaVA d5766c8,
    ``ppllava/test/video_utils.py``, does the same.)
    """
    row = {"video": "clip", "question": "?", "candidates": ["a", "b"], "answer": "a", "start": start, "end": end}
    write_json(tmp_path / "json" / "episodic_reasoning.json", [row])
    folder = tmp_path / "video/tvqa/frames_fps3_hq/clip"
    folder.mkdir(parents=True)
    for frame in range(1, 46):
        Image.new("RGB", (2, 2), (frame, frame, frame)).save(folder / f"{frame:05}.png")
    [item] = MVBench(str(tmp_path), tasks=["episodic_reasoning"]).items()
    clip, _ = read_frames(medium_ref(item.media[0]), number, SegmentIndices())
    first, last = max(1, round(start * 3)), min(round(end * 3), 45)
    length = (last - first) / number
    expected = [int(first + length / 2 + np.round(length * place)) for place in range(number)]
    assert clip.frames[:, 0, 0, 0].tolist() == expected


def test_what_is_not_there_is_an_error(root):
    with pytest.raises(ValueError, match=r"got tasks \['dancing'\], expected some of .*: correct benchmark.tasks"):
        MVBench(str(root), tasks=["dancing"])
    write_json(root / "json" / "action_count.json", [{"video": "x", "question": "q", "candidates": ["a"]}])
    with pytest.raises(ValueError, match=r"entry 0 lacks \['answer'\]"):
        MVBench(str(root), tasks=["action_count"]).items()
    write_json(
        root / "json" / "action_count.json", [{"video": "x", "question": "q", "candidates": ["a"], "answer": "b"}]
    )
    with pytest.raises(ValueError, match=r"with the answer 'b', expected one of \('a',\)"):
        MVBench(str(root), tasks=["action_count"]).items()


def test_prompts(root):
    item = MVBench(str(root), tasks=["action_count"]).items()[0]
    assert Paper().prompt(item, []) == f"{ASKED}\nOnly give the best option."
    assert Paper(system_prompt=True).prompt(item, []) == f"{SYSTEM}{ASKED}\nOnly give the best option."
    assert Official().prompt(item, []) == f"{SYSTEM}{ASKED}\nOnly give the best option."
    assert Official().system(item) == SYSTEM.strip()
    assert Lmms().prompt(item, []) == "Question:What?\nOption:\n(A) a cup\n(B) a box.\nOnly give the best option.\n"
    assert Paper().guide(item) == ASKED
    assert Paper().answer_prefix == Official().answer_prefix == "Best option:("
    assert [each.frames(item) for each in (Paper(), Official(), Lmms())] == [
        *(Frames(32, "segments"), Frames(16, "segments"), Frames(32, "linspace"))
    ]


def test_marks_by_hand(root):
    """Three answers about counting (B is right), then one of the next task that is asked, which is right."""
    benchmark = MVBench(str(root), tasks=["action_count", "action_antonym"])
    texts = ["B) a box", "The answer is B.", "", "B"]
    values, report = scores(answer(benchmark, Paper(), texts))
    assert values["accuracy", "task=action_count"] == pytest.approx(100 * 2 / 3)  # the empty one is "right"
    assert values["accuracy", "overall"] == 75.0
    assert values["mean_of_tasks", "overall"] == pytest.approx((100 * 2 / 3 + 100) / 2)
    assert report.unparsed == 2  # "(The" is no option, though check_ans only says that it is not B
    strict, _ = scores(answer(benchmark, Paper(lenient=False), texts))
    assert strict["accuracy", "task=action_count"] == pytest.approx(100 / 3)
    for empty in ("", " \n"):
        lmms, _ = scores(answer(benchmark, Lmms(), [*texts[:2], empty, texts[3]]))
        assert lmms["accuracy", "task=action_count"] == 100.0  # of two: the empty one does not count
    counted, _ = scores(answer(benchmark, Lmms(drop_empty=False), texts))
    assert counted["accuracy", "task=action_count"] == pytest.approx(100 * 2 / 3)
    official, _ = scores(answer(benchmark, Official(), ["B\nC", "C\nB", "b.", "(B"]))
    assert official["accuracy", "task=action_count"] == pytest.approx(100 * 2 / 3)
