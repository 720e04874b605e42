import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ppl.evaluation.benchmark import missing_files
from ppl.evaluation.benchmarks.videomme import Lmms, Official, Paper, VideoMME
from ppl.evaluation.protocol import Frames
from tests.evaluation.made_up_rows import SHOWN, answer, scores

FONT = '<font color="white" size=".72c">{}</font>'
SPOKEN = [(0.0, 0.9, "one"), (0.9, 1.9, "two"), (2.5, 2.9, "never"), (2.95, 4.0, "three\nlines")]
OPTIONS = ["A. One.", "B. Two.", "C. Three.", "D. Four."]
HEAD = "Select the best answer to the following multiple-choice question based on the video"
TAIL = "Respond with only the letter (A, B, C, or D) of the correct option."


def stamp(seconds):
    return f"00:00:{int(seconds):02},{round(1000 * (seconds % 1)):03}"


@pytest.fixture
def root(tmp_path):
    """Two videos; only the first has subtitles."""
    rows = [
        {
            "videoID": f"v{i // 2}",
            "question_id": f"00{i // 2}-{i % 2}",
            "duration": ("short", "long")[i // 2],
            "domain": "Knowledge",
            "sub_category": "Law",
            "task_type": "Counting Problem",
            "question": "How many?",
            "options": OPTIONS,
            "answer": "ABCD"[i],
        }
        for i in range(4)
    ]
    (tmp_path / "videomme").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "videomme" / "test-00000-of-00001.parquet")
    (tmp_path / "subtitle").mkdir()
    entries = [
        f"{i}\n{stamp(start)} --> {stamp(end)}\n{FONT.format(text)}\n"
        for i, (start, end, text) in enumerate(SPOKEN, start=1)
    ]
    entries.append("9\n00:00:00,000 --> 00:00:04,000\nuntagged\n")
    (tmp_path / "subtitle" / "v0.srt").write_text("\n".join(entries))
    return tmp_path


def test_questions_are_those_of_the_file(root):
    items = VideoMME(str(root), num_subtitled=1).items()
    assert [item.id for item in items] == ["000-0", "000-1", "001-0", "001-1"]
    first = items[0]
    assert first.options == ("One.", "Two.", "Three.", "Four.")
    assert (first.answer, first.cluster, first.groups["duration"]) == ("A", "v0", "short")
    assert first.media[0].path == str(root / "data" / "v0.mp4")
    assert items[2].files == {}
    part = VideoMME(str(root), duration="long")
    assert (part.name, [item.id for item in part.items()]) == ("videomme-long", ["001-0", "001-1"])


def test_subtitles_are_missing_as_long_as_fewer_videos_have_them_than_should(root):
    """Of 744 there is one: those of the other video may be among them. They matter where they are said."""
    first, *_, last = VideoMME(str(root)).items()
    for protocol in (Official, Paper, Lmms):
        assert missing_files([first, last], protocol(subtitles=True)) == [(last, str(root / "subtitle" / "v1.srt"))]
        assert missing_files([first, last], protocol()) == []


def test_another_file_is_an_error_that_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected Video-MME's questions: set the benchmark's root"):
        VideoMME(str(tmp_path)).items()


def test_prompts_without_subtitles(root):
    item = VideoMME(str(root)).items()[0]
    asked = "How many?\nA. One.\nB. Two.\nC. Three.\nD. Four."
    assert Official().prompt(item, [SHOWN]) == f"{HEAD}. {TAIL}\n{asked}\nThe best answer is:"
    assert Lmms().prompt(item, [SHOWN]) == (
        f"{HEAD} and the subtitles. {TAIL}\n{asked}\n\nAnswer with the option's letter from the given choices directly."
    )
    array = "How many?\n['A. One.' 'B. Two.' 'C. Three.' 'D. Four.']"
    assert Paper().prompt(item, [SHOWN]) == f"{HEAD} and the subtitles. {TAIL}\n{array}"
    sane = Paper(array_options=False, subtitles_always_named=False)
    assert sane.prompt(item, [SHOWN]) == f"{HEAD}. {TAIL}\n{asked}"
    assert [protocol.guide(item) for protocol in (Official(), Lmms(), Paper(), sane)] == [asked, asked, array, asked]
    assert Paper().answer_prefix == "The best answer is:"


def test_subtitles_are_those_of_the_sampled_frames(root):
    """Frames at 0, 1, 2 and 3 s: "never" is said between two, and one is outside the font tag."""
    item = VideoMME(str(root)).items()[0]
    official = Official(subtitles=True).prompt(item, [SHOWN])
    assert official.startswith(
        f"This video's subtitles are listed below:\none\ntwo\nthree lines\nuntagged\n{HEAD}. {TAIL}\nHow many?\n"
    )
    paper = Paper(subtitles=True).prompt(item, [SHOWN])
    assert paper.startswith(
        f"This video's subtitles are listed below: one two three lines \n{HEAD} and the subtitles. {TAIL}\nHow many?\n["
    )
    sane = Paper(subtitles=True, shuffled_subtitles=False).prompt(item, [SHOWN])
    assert sane.startswith("This video's subtitles are listed below: one two three lines untagged \nSelect")


def test_lmms_takes_subtitles_at_frames_of_its_own(root):
    """Of 40 frames it takes 0, 13, 26 and 39 (1.3 and 2.6 s): "never" is said there, unseen by us."""
    item = VideoMME(str(root)).items()[0]
    prompt = Lmms(subtitles=True, subtitle_frames=4).prompt(item, [SHOWN])
    assert prompt == (
        "This video's subtitles are listed below: \none\ntwo\nnever\nthree lines\n"
        f"{HEAD} and the subtitles. {TAIL}\nHow many?\nA. One.\nB. Two.\nC. Three.\nD. Four.\nThe best answer is:"
    )


def test_videos_without_subtitles(root):
    item = VideoMME(str(root), num_subtitled=1).items()[2]
    assert Official(subtitles=True).prompt(item, [SHOWN]) == Official().prompt(item, [SHOWN])
    assert Paper(subtitles=True).prompt(item, [SHOWN]) == Paper().prompt(item, [SHOWN])
    said = Lmms(subtitles=True).prompt(item, [SHOWN])
    assert said.startswith("This video's subtitles are listed below: \nNo subtitles available\nSelect")


def test_frames(root):
    short, _, long, _ = VideoMME(str(root)).items()
    assert [Paper().frames(item) for item in (short, long)] == [Frames(32, "segments"), Frames(64, "segments")]
    assert Official(num_frames=8).frames(long) == Frames(8, "midpoints")
    assert Lmms(num_frames=8).frames(long) == Frames(8, "linspace")


def test_marks(root):
    """References A, B, C, D: one right, one unread, one wrong and one right; Based … C reads B (P) and C (lmms)."""
    texts = ["A", "none", "Based on the video, the answer is C.", "D. Four."]
    benchmark = VideoMME(str(root))
    dropped, report = scores(answer(benchmark, Paper(), texts))
    assert dropped["accuracy", "overall"] == pytest.approx(100 * 2 / 3)
    assert dropped["accuracy", "duration=long"] == 50.0
    assert (report.unparsed, report.coverage) == (1, 1.0)
    counted, _ = scores(answer(benchmark, Paper(drop_unparsed=False), texts))
    assert counted["accuracy", "overall"] == 50.0
    assert scores(answer(benchmark, Official(), texts))[0] == dropped
    assert scores(answer(benchmark, Lmms(), texts))[0]["accuracy", "overall"] == 75.0
