"""Rows of questions in every form, and what is told of bad ones."""

import json

import pytest
from PIL import Image

from ppl.datamodules.records import PLACEHOLDER, MediumRef, Turn
from ppl.serving.question_rows import read_questions

Q, R = "what colour is it ?", "where is it ?"


@pytest.fixture
def read(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")

    def write_and_read(*rows, root=None):
        file = tmp_path / "questions.jsonl"
        file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
        return list(read_questions(file, root))

    return write_and_read


@pytest.fixture
def at(tmp_path):
    return lambda name, kind="video", **times: MediumRef(kind, str(tmp_path / name), **times)


def test_a_question_about_a_video_or_an_image(read, at):
    video, image, told, neither = read(
        {"id": 7, "video": "a.mp4", "start": 1, "end": 2.5, "question": f" {Q} ", "answer": "red", "split": "x"},
        {"id": "b", "image": "b.png", "question": Q},
        {"id": "c", "media": ["picture.png", "a.mp4"], "question": Q},
        {"question": Q},
    )
    assert video == ("7", [], [at("a.mp4", start=1.0, end=2.5)], [f"{PLACEHOLDER}\n{Q}"], "red")
    assert image == ("b", [], [at("b.png", "image")], [f"{PLACEHOLDER}\n{Q}"], None)
    assert (told.media, told.questions) == ([at("picture.png", "image"), at("a.mp4")], [Q])
    assert neither == ("questions.jsonl:4", [], [], [Q], None)
    assert video.asked == [Q]


def test_questions_that_follow_on_each_other_and_tags(read, at):
    several, tagged = read(
        {"id": "a", "video": "a.mp4", "questions": [Q, R]},
        {"id": "b", "images": ["x.png", "y.png"], "question": "is <image> or <image> red ?"},
    )
    assert several.questions == [f"{PLACEHOLDER}\n{Q}", R]
    assert several.asked == [Q, R]
    assert tagged.questions == [f"is {PLACEHOLDER} or {PLACEHOLDER} red ?"]
    assert tagged.media == [at("x.png", "image"), at("y.png", "image")]


def test_the_last_question_of_an_annotated_conversation(read, at):
    shared, messages, open_end = read(
        {
            "id": "s",
            "video": "a.mp4",
            "conversations": [
                {"from": "human", "value": f"<video>\n{Q}"},
                {"from": "gpt", "value": "red"},
                {"from": "human", "value": R},
                {"from": "gpt", "value": "left"},
            ],
        },
        {
            "id": "m",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [{"type": "video", "video": "a.mp4"}, {"type": "text", "text": Q}]},
                {"role": "assistant", "content": "red"},
            ],
        },
        {"id": "o", "messages": [{"role": "user", "content": Q}]},
    )
    before = [Turn("user", f"{PLACEHOLDER}\n{Q}"), Turn("assistant", "red")]
    assert shared == ("s", before, [at("a.mp4")], [R], "left")
    assert messages == ("m", [Turn("system", "be brief")], [at("a.mp4")], [f"{PLACEHOLDER}\n{Q}"], "red")
    assert open_end == ("o", [], [], [Q], None)


def test_media_lie_where_it_is_said(read):
    [row] = read({"video": "a.mp4", "question": Q}, root="elsewhere")
    assert row.media[0].path == "elsewhere/a.mp4"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{broken", "broken JSON"),
        ([1], "got a list; expected an object with 'question' or 'questions', or one of the forms"),
        ({"id": "x", "text": Q}, r"got the keys \['id', 'text'\]"),
        ({"vidoe": "a.mp4", "question": Q}, "got the unknown key 'vidoe'; expected 'video'"),
        ({"question": " "}, "none of them empty"),
        ({"questions": [Q, 3]}, "none of them empty"),
        ({"questions": []}, "none of them empty"),
        ({"question": 3}, "'question' of type int"),
        ({"question": Q, "media": "a.mp4", "video": "a.mp4"}, "'media' beside 'image' or 'video'"),
        ({"question": Q, "media": [3]}, "got 3 as video path"),
        ({"question": Q, "image": "a.png", "start": 2}, "on an image"),
        ({"question": Q, "video": "a.mp4", "start": 3, "end": 2}, "0 <= start < end"),
        ({"question": "<video> <video> ?", "video": "a.mp4"}, "got 0 <image> and 2 <video> placeholders"),
        ({"id": "a", "question": R}, r"got the id 'a'; expected another than that of .*questions\.jsonl:1"),
        ({"messages": []}, "an empty question"),
    ],
    ids=str,
)
def test_a_bad_row_is_an_error_in_its_place(read, bad, message):
    first, second, third = read({"id": "a", "question": Q}, bad, {"id": "b", "question": Q})
    assert (first.id, third.id) == ("a", "b")
    with pytest.raises(ValueError, match=message) as raised:
        raise second
    assert "questions.jsonl:2" in str(raised.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        list(read_questions(tmp_path / "none.jsonl"))
