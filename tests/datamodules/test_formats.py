"""Forms that test_annotations.py does not have; each item is written out by hand."""

from __future__ import annotations

import json

import pytest

from ppl.datamodules.annotations import FORMATS, read_records
from ppl.datamodules.records import PLACEHOLDER, ByteRange, MediumRef, TableCell, Turn, check_answered


@pytest.fixture
def read(tmp_path):
    def read(item, root="/media"):
        path = tmp_path / "data.jsonl"
        path.write_text(json.dumps(item) + "\n")
        (found,) = read_records(path, root)
        return found

    return read


ITEMS = {
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "conversations": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "question_answers": {"QA": [{"q": "q", "a": "a"}]},
    "video_chatgpt": {"q": "q", "a": "a", "video_id": "v"},
    "preference": {"prompt": "q", "chosen": "a", "rejected": "b"},
}


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.__name__.rpartition(".")[2])
def test_each_form_is_told_from_every_other(form, read):
    name = form.__name__.rpartition(".")[2]
    assert [other for other, item in ITEMS.items() if form.matches(item)] == [name]
    record = read(ITEMS[name])
    assert [turn.text.removeprefix(f"{PLACEHOLDER}\n") for turn in record.turns] == ["q", "a"]
    assert set(ITEMS[name]) <= set(form.KEYS)


def test_llava_video_178k(read):
    """A record of lmms-lab/LLaVA-Video-178K: an <image> tag for the video, where it comes from beside it."""
    found = read(
        {
            "id": "2-1",
            "conversations": [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}],
            "data_source": "0_30_s_academic_v0_1",
            "video": "academic_source/v.mp4",
        }
    )
    assert (found.id, found.media) == ("2-1", [MediumRef("video", "/media/academic_source/v.mp4")])


def test_m4_instruct(read):
    """A record of M4-Instruct, with the keys of github.com/LLaVA-VL/LLaVA-NeXT/issues/107."""
    item = {
        "sample_id": 4756,
        "conversations": [{"from": "human", "value": "<image><image>\nq"}, {"from": "gpt", "value": "a"}],
        "image": ["b.jpg", "a.jpg"],
        "choice_list": None,
        "metadata": {"dataset": "MagicBrush-Diff", "split": "train"},
    }
    found = read(item)
    assert (found.id, [ref.path for ref in found.media]) == ("4756", ["/media/b.jpg", "/media/a.jpg"])
    with pytest.raises(ValueError, match="got 2 <image> and 0 <video> placeholders; expected one for each of 4 images"):
        read(item | {"image": ["a", "b", "c", "d"]})  # as in that issue
    turned = item | {"conversations": item["conversations"][::-1]}  # as in issue 89
    with pytest.raises(ValueError, match=r"got 0 <image> and 0 <video>|got a turn of the assistant first"):
        read(turned)


def test_tags_in_a_text_of_messages_take_what_is_listed_as_in_ms_swift(read):
    turns = [
        {"role": "user", "content": "<image>What is in <video> but not there?"},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "And in <image>?"},
        {"role": "assistant", "content": "A dog."},
    ]
    found = read({"messages": turns, "images": ["a.png", "b.png"], "videos": ["v.mp4"]})
    assert [(medium.kind, medium.path.rsplit("/", 1)[-1]) for medium in found.media] == [
        ("image", "a.png"),
        ("video", "v.mp4"),
        ("image", "b.png"),
    ]
    assert found.turns[0].text == f"{PLACEHOLDER}What is in {PLACEHOLDER} but not there?"
    assert found.turns[2].text == f"And in {PLACEHOLDER}?"


def test_tags_of_messages_without_a_medium_are_refused(read):
    turns = [{"role": "user", "content": "<video>What?"}, {"role": "assistant", "content": "A cat."}]
    with pytest.raises(ValueError, match="got <video> in the text of the user"):
        read({"messages": turns})


def test_lists_may_be_called_images_and_videos(read):
    turns = ITEMS["conversations"]["conversations"]
    found = read({"conversations": turns, "images": ["a.png"], "videos": ["v.mp4"]})
    assert [ref.path for ref in found.media] == ["/media/v.mp4", "/media/a.png"]


def test_a_video_may_be_a_list_of_frames(read):
    turns, frames = ITEMS["conversations"]["conversations"], ("/media/1.png", "/media/2.png")
    expected = [MediumRef("video", "/media/1.png", fps=2.0, frames=frames)]
    assert read({"conversations": turns, "video": [["1.png", "2.png"]], "fps": 2}).media == expected
    part = {"type": "video", "video": ["1.png", "2.png"], "fps": 2}
    content = [part, {"type": "text", "text": "q"}]
    found = read({"messages": [{"role": "user", "content": content}]})
    assert found.media == expected
    assert found.media[0].files == frames


def test_parts_without_a_path_take_the_next_of_the_lists(read):
    content = [{"type": "image"}, {"type": "text", "text": "or"}, {"type": "image", "text": None}, {"type": "video"}]
    item = {"messages": [{"role": "user", "content": content}], "images": ["b.png", "a.png"], "videos": ["v.mp4"]}
    assert [ref.path for ref in read(item).media] == ["/media/b.png", "/media/a.png", "/media/v.mp4"]
    with pytest.raises(ValueError, match="got more images than parts of type 'image'; expected as many"):
        read(item | {"images": ["a.png", "b.png", "c.png"]})
    with pytest.raises(ValueError, match=r"got {'type': 'image', 'text': None} without 'image'"):
        read(item | {"images": ["a.png"]})


def test_ppllava_instruction_and_turns(read):
    qa = [{"i": "Watch.", "q": "q1", "a": "a1"}, {"q": "q2", "a": "a2"}]
    found = read({"video": "frames/v", "total_frames": 120, "QA": qa})
    assert [(turn.role, turn.text) for turn in found.turns] == [
        ("system", "Watch."),
        ("user", "<media>\nq1"),
        ("assistant", "a1"),
        ("user", "q2"),
        ("assistant", "a2"),
    ]
    assert found.media == [MediumRef("video", "/media/frames/v")]
    with pytest.raises(ValueError, match=r"got another instruction 'i' in QA\[1\]; expected one, in the first"):
        read({"QA": [qa[0], qa[1] | {"i": "Look."}]})


def test_ppllava_images_keep_their_order(read):
    found = read({"multi-image": ["b.jpg", "a.jpg"], "QA": [{"q": "<image> and <image> differ how?", "a": "a"}]})
    assert found.turns[0].text == "<media> and <media> differ how?"
    assert [ref.path for ref in found.media] == ["/media/b.jpg", "/media/a.jpg"]
    assert read({"image": "c.jpg", "QA": [{"i": "", "q": "q", "a": "a"}]}).turns[0] == Turn("user", "<media>\nq")


def test_video_chatgpt_finds_the_file_of_an_id(read, tmp_path):
    item = {"q": "q", "a": "a", "video_id": "v_abc"}
    assert read(item, tmp_path).media == [MediumRef("video", str(tmp_path / "v_abc"))]
    (tmp_path / "v_abc.mkv").touch()
    found = read(item, tmp_path)
    assert found.media == [MediumRef("video", str(tmp_path / "v_abc.mkv"))]
    assert found.id == "v_abc, data.jsonl:1"
    (tmp_path / "v_abc.mp4").touch()
    with pytest.raises(ValueError, match=r"got the files \['v_abc.mp4', 'v_abc.mkv'\] for 'video_id'; expected one"):
        read(item, tmp_path)
    (tmp_path / "v_abc").mkdir()
    assert read(item, tmp_path).media == [MediumRef("video", str(tmp_path / "v_abc"))]


def test_llava_hound_pairs(read):
    item = {"id": "x", "video": "v", "prompt": "<video>\nq", "answer": "a", "chosen": "good", "rejected": "bad"}
    item |= {"chosen_score": 5, "rejected_score": 1}
    found = read(item)
    assert found.turns == [Turn("user", "<media>\nq"), Turn("assistant", "good")]
    assert (found.rejected, found.media) == ("bad", [MediumRef("video", "/media/v")])
    assert read(item | {"prompt": "q"}).turns == found.turns
    with pytest.raises(ValueError, match=r"got a preference pair \('chosen' and 'rejected'\); expected one answer"):
        check_answered(found)
    with pytest.raises(ValueError, match="got a preference pair with an empty answer"):
        read(item | {"rejected": " "})
    with pytest.raises(ValueError, match="got <image> in the text of the assistant"):
        read(item | {"rejected": "<image>"})


def test_parts_of_messages_may_be_kept_as_written(read):
    parts = [{"type": "text", "text": "is "}, {"type": "image", "image": "a.png"}, {"type": "text", "text": " red ?\n"}]
    assert read({"messages": [{"role": "user", "content": parts}]}).turns[0].text == f"is\n{PLACEHOLDER}\nred ?"
    assert read({"messages": [{"role": "user", "separator": "", "content": parts}]}).turns[0].text == (
        f"is {PLACEHOLDER} red ?\n"
    )


def test_messages_may_end_with_a_pair(read):
    """As ms-swift has it."""
    turns = [{"role": "user", "content": "which ?"}, {"role": "assistant", "content": "this"}]
    found = read({"messages": turns, "rejected_response": " that\n"})
    assert (found.turns[-1].text, found.rejected) == ("this", "that")


@pytest.mark.parametrize(
    ("path", "inside", "expected"),
    [
        ("a.tar", {"offset": 512, "size": 7}, MediumRef("image", "/media/a.tar", inside=ByteRange(512, 7))),
        ("/b.parquet", {"row": 2, "column": "c"}, MediumRef("image", "/b.parquet", inside=TableCell(2, "c"))),
        (
            "s3://bucket/b.parquet",
            {"row": 0, "column": "c", "item": 1, "split": "train"},
            MediumRef("image", "s3://bucket/b.parquet", inside=TableCell(0, "c", 1, "train")),
        ),
    ],
)
def test_a_part_of_messages_may_lie_inside_a_file(read, path, inside, expected):
    part = {"type": "image", "image": path, "inside": inside}
    content = [part, {"type": "text", "text": "what ?"}]
    assert read({"messages": [{"role": "user", "content": content}]}).media == [expected]
    with pytest.raises(ValueError, match="without 'row'; expected an object with 'row'"):
        read({"messages": [{"role": "user", "content": [part | {"inside": {"column": "c"}}, content[1]]}]})
    with pytest.raises(ValueError, match="as 'inside'; expected numbers from 0 on"):
        read({"messages": [{"role": "user", "content": [part | {"inside": inside | {"size": -1}}, content[1]]}]})
