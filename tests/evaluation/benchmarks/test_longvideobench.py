import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.evaluation.benchmark import missing_files
from ppl.evaluation.benchmarks.longvideobench import Lmms, LongVideoBench, Official, interleave, spoken
from ppl.evaluation.items import MEDIA_MARK
from ppl.evaluation.protocol import Frames
from ppl.evaluation.subtitles import Subtitle
from tests.evaluation.made_up_rows import SHOWN, answer, scores, write_json

ASKED = "Where?\nA. here\nB. there"
INSTRUCTION = "Answer with the option's letter from the given choices directly."


@pytest.fixture
def root(tmp_path):
    row = {
        "video_id": "v1",
        "video_path": "v1.mp4",
        "subtitle_path": "v1_en.json",
        "question": "Where?",
        "candidates": ["here", "there"],
        "duration": 4.0,
        "duration_group": 15,
        "question_category": "S2E",
        "topic_category": "KG",
        "starting_timestamp_for_subtitles": 10,
    }
    clocked = {**row, "id": "v1_1", "subtitle_path": "v1.json"}
    write_json(
        tmp_path / "lvb_val.json", [{**row, "id": "v1_0", "correct_choice": 1}, {**clocked, "correct_choice": 0}]
    )
    write_json(tmp_path / "lvb_test_wo_gt.json", [{**row, "id": "v1_0"}, {**row, "id": "v1_2"}])
    said = [("one", 10.2, 11.4), ("never", 12.1, 12.2), ("to the end", 12.6, 14.0)]
    write_json(
        tmp_path / "subtitles" / "v1_en.json",
        [{"timestamp": [start, end], "text": text} for text, start, end in said],
    )
    write_json(
        tmp_path / "subtitles" / "v1.json", [{"start": "00:00:10.500", "end": "00:00:12.500", "line": "by the clock"}]
    )
    return tmp_path


def test_questions_with_and_without_public_answers(root):
    items = LongVideoBench(str(root)).items()
    assert [(item.id, item.answer, item.options) for item in items] == [
        ("v1_0", "B", ("here", "there")),
        ("v1_1", "A", ("here", "there")),
    ]
    assert items[0].groups == {"duration": "15", "category": "S2E", "topic": "KG"}
    assert items[0].media[0].path == str(root / "videos" / "v1.mp4")
    assert [item.answer for item in LongVideoBench(str(root), split="test").items()] == [None, None]


def test_subtitles_are_looked_for_where_they_are_said(root):
    gone = root / "subtitles" / "v1.json"
    gone.unlink()
    items = LongVideoBench(str(root)).items()
    assert missing_files(items, Official()) == missing_files(items, Lmms(subtitles=True)) == [(items[1], str(gone))]
    assert missing_files(items, Lmms()) == []


def test_frames_and_what_is_said_between_them(root):
    """Frames at 0 … 3 s; "one" is said around 0.8 s, "never" around 2.15 s for a second."""
    first, second = LongVideoBench(str(root)).items()
    m = MEDIA_MARK
    assert Official().prompt(first, [SHOWN]) == (
        f"{m}\none\n{m}\n{m}\nnever\n{m}\nto the end\nQuestion: Where?\nA. here\nB. there\n{INSTRUCTION}"
    )
    assert Official().prompt(second, [SHOWN]).startswith(f"{m}\n{m}\nby the clock\n{m}\n{m}\nQuestion: Where?")
    assert Official(subtitles=False).prompt(second, [SHOWN]).startswith("\n".join([m, m, m, m, "Question: Where?"]))
    assert Lmms(num_frames=4, subtitles=True).prompt(second, [SHOWN]) == (
        f"{m}\n{m}\nby the clock\n{m}\n{m}\n{ASKED}\n{INSTRUCTION}\n"
    )
    assert Lmms().prompt(first, [SHOWN]) == f"{ASKED}\n{INSTRUCTION}\n"
    assert Lmms().guide(first) == Official().guide(first) == ASKED


def test_a_missing_end_is_the_video_s_and_is_shifted_as_the_authors_do(root):
    write_json(root / "subtitles" / "v1_en.json", [{"timestamp": [12.6, None], "text": "lost"}])
    assert spoken(LongVideoBench(str(root)).items()[0]) == [Subtitle(12.6 - 10, 4.0 - 10, "lost")]


def test_frames_are_images_where_text_stands_between(root):
    item = LongVideoBench(str(root)).items()[0]
    assert Official().frames(item) == Frames(64, "starts", apart=True)
    assert Lmms(subtitles=True, num_frames=16).frames(item) == Frames(16, "starts", apart=True)
    assert Lmms().frames(item) == Frames(32, "linspace")


SPANS = st.lists(st.tuples(st.floats(0, 60), st.floats(0, 9)), max_size=8)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 60), max_size=9).map(sorted), SPANS)
def test_every_frame_is_shown_once_and_in_its_place(times, spans):
    """A subtitle in the order of its middle stands behind the frames up to there, and only those frames."""
    said = sorted((Subtitle(start, start + length, f"{i}") for i, (start, length) in enumerate(spans)), key=middle)
    pieces = interleave(times, said)
    assert pieces.count(MEDIA_MARK) == len(times)
    for each in said:
        if each.text in pieces:
            before = pieces[: pieces.index(each.text)].count(MEDIA_MARK)
            assert before == sum(time <= middle(each) for time in times)


def middle(said):
    return (said.start + said.end) / 2


def test_marks_and_the_submission(root):
    """B is right, and "Based …" reads B, which is wrong; nothing is read from a dash."""
    rows = answer(LongVideoBench(str(root)), Lmms(), ["B", "Based on the video, A"])
    values, report = scores(rows)
    assert (values["accuracy", "overall"], report.unparsed) == (50.0, 0)
    values, report = scores(answer(LongVideoBench(str(root)), Official(), ["–", "A"]))
    assert (values["accuracy", "overall"], report.unparsed) == (50.0, 1)
    test = LongVideoBench(str(root), split="test")
    files = Official().submission(answer(test, Official(), ["B", "There."]))
    assert json.loads(files["longvideobench_test_for_submission.json"]) == {"v1_0": "B", "v1_2": "There."}
    assert Lmms().submission(rows) == {}
    assert scores(answer(test, Lmms(), ["B", "There."]))[0]["accuracy", "overall"] is None
