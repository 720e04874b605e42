from __future__ import annotations

import json
import sys

import fsspec
import pytest

from ppl.datamodules.annotations import iter_records, read_records
from ppl.datamodules.records import MediumRef, Record, Turn
from ppl.datamodules.storage import json_text


def llava(question="q", answer="a", **extra):
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}], **extra}


def messages(content, **extra):
    return {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "a"}], **extra}


@pytest.fixture
def read(tmp_path):
    def read(item):
        path = tmp_path / "data.json"
        path.write_text(json.dumps([item]))
        (found,) = read_records(path, "/media")
        return found

    return read


def test_llava_item(read):
    found = read(llava("<video>\nwhat ?", id=7, video="v.mp4", start=1, end=2.5, category="action"))
    assert found.id == "7"
    assert found.turns == [Turn("user", "<media>\nwhat ?"), Turn("assistant", "a")]
    assert found.media == [MediumRef("video", "/media/v.mp4", 1.0, 2.5)]
    assert (found.category, found.origin.endswith("data.json:1, item 0")) == ("action", True)


def test_llava_media_without_placeholder_go_first_videos_before_images(read):
    found = read(llava("what ?", image=["a.png", "b.png"], video="/abs/v.mp4"))
    assert found.turns[0].text == "<media>\n<media>\n<media>\nwhat ?"
    assert [ref.path for ref in found.media] == ["/abs/v.mp4", "/media/a.png", "/media/b.png"]


def test_llava_media_follow_their_tags(read):
    found = read(llava("<image> then <video> then <image> ?", image=["a.png", "b.png"], video="v.mp4"))
    assert [ref.path for ref in found.media] == ["/media/a.png", "/media/v.mp4", "/media/b.png"]
    assert found.turns[0].text == "<media> then <media> then <media> ?"


def test_image_tag_may_stand_for_a_video_as_in_llava_video(read):
    assert read(llava("<image>\nwhat ?", video="v.mp4")).media == [MediumRef("video", "/media/v.mp4")]


def test_messages_item_keeps_the_place_of_media(read):
    parts = [
        {"type": "text", "text": "compare "},
        {"type": "image", "image": "a.png"},
        {"type": "video", "video": "v.mp4", "start": 0.5},
        {"type": "text", "text": "how ?"},
    ]
    found = read(messages(parts, id="x"))
    assert found.turns == [Turn("user", "compare\n<media>\n<media>\nhow ?"), Turn("assistant", "a")]
    assert found.media == [MediumRef("image", "/media/a.png"), MediumRef("video", "/media/v.mp4", 0.5, None)]


def test_form_is_told_by_content_and_paths_start_at_the_file(tmp_path):
    path = tmp_path / "named_wrongly.json"
    lines = [
        json.dumps(messages("line\u2028break", category="c"), ensure_ascii=False),
        "",
        json.dumps(llava(image="a.png")),
    ]
    path.write_text("\ufeff" + "\n".join(lines))
    first, second = read_records(path)
    assert first.turns[0].text == "line\u2028break"
    assert (first.id, first.origin) == ("named_wrongly.json:1", f"{path}:1")
    assert second.origin == f"{path}:3"
    assert second.media == [MediumRef("image", str(tmp_path / "a.png"))]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            llava("<image> <image> q", image="a.png"),
            "got 2 <image> and 0 <video> placeholders; expected one for each of 1",
        ),
        (llava("<image> <image> q", image="a.png", video="v.mp4"), "got 2 <image> and 0 <video> placeholders"),
        (llava("<image>\n", image="a.png"), "got an empty question"),
        (llava(answer="see <image>"), "got <image> in the text of the assistant"),
        (llava("<media> q"), "got 1 placeholders in the user turns; expected 0"),
        (llava(image=3), "got 'image' of type int; expected str or list; write 'image' as str or list"),
        (llava(image=[3]), "got 3 as image path; expected a non-empty string; name the file"),
        (llava(vidoe="v.mp4"), "got the unknown key 'vidoe'; expected 'video'; rename or remove it"),
        (llava(imags=["a.png"]), "got the unknown key 'imags'; expected 'images'"),
        (llava(images=["a.png"], image="b.png"), "got 'image' and 'images'; expected one of them"),
        (llava(video="v.mp4", fps=0), "got fps 0; expected frames a second above 0"),
        (llava(video=[["a.png", 3]]), r"got \['a.png', 3\] as video path; expected a non-empty string"),
        (llava(video="v.mp4", start=2, end=1), "got a clip from 2 to 1 s; expected 0 <= start < end"),
        (llava(image="a.png", start=2), "got 'start', 'end' or 'fps' on an image"),
        ({"conversations": [{"from": "robot", "value": "q"}]}, "got the role 'robot'; expected one of system, user"),
        ({"conversations": [{"from": "human"}]}, r"got {'from': 'human'} without 'value'; expected an object with"),
        ({"conversations": ["q"]}, "got 'q' without 'from'"),
        ({"conversations": {}}, "got 'conversations' of type dict; expected list"),
        (llava(messages=[]), r"got the keys \['conversations', 'messages'\]; expected those of one"),
        (messages("q", image="a.png"), r"got \['image'\] beside 'messages'; expected media as parts"),
        (messages([{"type": "audio", "audio": "a.wav"}]), "got a part of type 'audio'; expected 'text', 'image' or"),
        (messages([{"type": "image"}]), "got {'type': 'image'} without 'image'"),
        (messages("<image>\nq"), "got <image> in the text of the user"),
        ("text", "got a str; expected an object with 'messages'; 'conversations'"),
    ],
)
def test_bad_items_are_refused_with_file_and_item(read, item, message):
    with pytest.raises(ValueError, match=rf"data\.json:1, item 0: {message}"):
        read(item)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty file; expected a JSON list or one JSON object a line"),
        ("[]", "got an empty file"),
        (
            '{"messages": []\n',
            r"data\.txt:1: got broken JSON \(.*\); expected one JSON list a file or one JSON object a line",
        ),
        ('\n{"a": 1\n', r"data\.txt:2: got broken JSON"),
        ('[\n{"a" 1}]', r"data\.txt:2: got broken JSON \(Expecting ':' delimiter, column 6\)"),
        ('{"id": "x"}', r"data\.txt:1: got the keys \['id'\]; expected those of one form: 'messages'; 'conv"),
    ],
)
def test_bad_files_are_refused_with_file_and_line(tmp_path, text, message):
    path = tmp_path / "data.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_records(path)


def test_bad_records_are_errors_in_their_place(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join([json.dumps(llava()), "{", "", json.dumps(llava(vidoe="v")), json.dumps(messages("q"))]))
    first, broken, misspelt, last = iter_records(path)
    assert (first.origin, last.origin) == (f"{path}:1", f"{path}:5")
    assert str(broken).startswith(f"{path}:2: got broken JSON")
    assert str(misspelt).startswith(f"{path}:4: got the unknown key")


def test_lines_are_read_one_at_a_time(tmp_path, monkeypatch):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(llava()) + "\n" + "never looked at\n" * 10)
    parsed = []
    monkeypatch.setattr(json_text.json, "loads", lambda text: parsed.append(text) or json.JSONDecoder().decode(text))
    assert next(iter_records(path)).turns[0].text == "q"
    assert len(parsed) == 1


def test_urls_need_a_media_root():
    with fsspec.open("memory://annotations/data.jsonl", "w") as file:
        file.write(json.dumps(llava(image="a.png")) + "\n" + json.dumps(llava()))
    url = "memory://annotations/data.jsonl"
    refused, words = iter_records(url)
    assert f"{url}:1: got the relative media path 'a.png'; expected a folder it starts from" in str(refused)
    assert words.media == []
    assert read_records(url, "/media")[0].media == [MediumRef("image", "/media/a.png")]


def test_streaming_wants_a_split(tmp_path):
    with pytest.raises(ValueError, match="got streaming: true without a split; expected a split that datasets loads"):
        read_records(tmp_path / "data.jsonl", streaming=True)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data.jsonl"):
        read_records(tmp_path / "data.jsonl")


BEGIN, END = '{"conversations": [{"from": "human", "value": "what ?"}, {"from": "gpt", "value": "a"}]', "}"
HOSTILE = [
    (f'{BEGIN}, "video": "v.mp4", "start": NaN{END}', "got 'start' nan; expected a finite number"),
    (f'{BEGIN}, "video": "v.mp4", "end": Infinity{END}', "got 'end' inf; expected a finite number"),
    (f'{BEGIN}, "video": "v.mp4", "fps": 1{"0" * 400}{END}', r"got 'fps' 10+; expected a finite number"),
    (f'{BEGIN}, "id": 1{"0" * 5000}{END}', r"got broken JSON \(Exceeds the limit"),
    ("[" * 2 * sys.getrecursionlimit(), r"got broken JSON \(maximum recursion depth"),
    (f'{BEGIN}, "x": {"[" * 2 * sys.getrecursionlimit()}', r"got broken JSON \(maximum recursion depth"),
    (f'{BEGIN}, "image": "\\ud800.png"{END}', r"got half a character, '\\ud800'; expected whole ones"),
    (f'{BEGIN}, "id": "\\udc00"{END}', r"got half a character, '\\udc00'; expected whole ones"),
    (f'{BEGIN}, "image": "data:image/png;base64,{"A" * 999}"{END}', "got 'data:image/png.* of 1021 characters as"),
    (json.dumps({"video_id": "v" * 300, "q": "what ?", "a": "a"}), "got 'vvv.* of 300 characters as the path"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE)
def test_hostile_items_are_errors_in_their_place(tmp_path, text, message):
    """The file is read on: what follows is there."""
    path = tmp_path / "data.jsonl"
    path.write_text(f"{BEGIN}{END}\n{text}\n{BEGIN}{END}\n")
    first, bad, last = iter_records(path)
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    with pytest.raises(ValueError, match=rf"data\.jsonl:2: {message}"):
        raise bad
    path.write_text(f"[{BEGIN}{END},\n{text},\n{BEGIN}{END}]")
    found = list(iter_records(path))
    assert isinstance(found[0], Record)
    with pytest.raises(ValueError, match=rf"data\.jsonl:2(, item 1)?: {message}"):
        raise found[1]
