"""Conversion: what is written reads back to the same records, whatever form they came from."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ppl.cli import main
from ppl.datamodules.annotations import iter_records, read_records
from ppl.datamodules.records import ByteRange, MediumRef, Record, TableCell, Turn, check_record
from ppl.inspection.messages import as_messages

TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
FORMS = [
    {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}, {"type": "image", "image": "a.png"},
     {"type": "text", "text": " why ?"}]}, {"role": "assistant", "content": "a"}]},
    {"conversations": [{"from": "human", "value": "is <image> or <image>\nred ?"}, {"from": "gpt", "value": "b"},
                       {"from": "human", "value": "and <video>?"}],
     "image": ["a.png", "sub/b.png"], "video": "v.mp4", "start": 0, "end": 2.5, "category": "ü"},
    {"QA": [{"i": "Look.", "q": "<image><image>\nwhat ?", "a": "that"}, {"q": "more ?", "a": "no"}],
     "multi-image": ["a.png", "/far/b.png"], "id": 3},
    {"video_id": "v", "q": "what ?", "a": "that"},
    {"conversations": TURNS, "video": "frames", "fps": 2},
    {"conversations": TURNS, "video": [["f/1.png", "/far/2.png"]], "fps": 0.5, "start": 1},
    {"prompt": "<video>\nwhich ?", "chosen": "this", "rejected": "that", "video": "v.mp4"},
    {"conversations": TURNS},
    {"id": "1", "video": "academic_source/a.mp4", "data_source": "0_30_s_academic_v0_1",
     "conversations": [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}]},
]  # fmt: skip


def convert(*words):
    with pytest.raises(SystemExit) as stopped:
        main(["data", "convert", *words])
    return stopped.value.code


def same(records):
    return [replace(record, origin="") for record in records]


@pytest.mark.parametrize("root", [None, "/media"])
def test_every_form_reads_back(write, tmp_path, root):
    file, out = write(FORMS), str(tmp_path / "out.jsonl")
    words = [] if root is None else ["--media-root", root]
    main(["data", "convert", file, "--to", "messages", "-o", out, *words])
    assert same(read_records(out, root)) == same(read_records(file, root))
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [set(item) - {"id", "messages"} for item in written if "rejected_response" in item] == [
        {"rejected_response"}
    ]
    assert written[3]["messages"][0]["content"] == [
        {"type": "video", "video": "v"},
        {"type": "text", "text": "what ?"},
    ]


def test_media_inside_tars_and_tables_are_referred_to(write, tmp_path):
    (tmp_path / "a.png").write_bytes(b"pixels")
    (tmp_path / "a.json").write_text(json.dumps({"conversations": TURNS}))
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name in ("a.json", "a.png"):
            tar.add(tmp_path / name, name)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "q"}]}]
    table = pyarrow.table({"messages": [messages], "images": [[{"bytes": b"pixels", "path": None}]]})
    pyarrow.parquet.write_table(table, tmp_path / "table.parquet")
    sources, out = [str(tmp_path / name) for name in ("shard.tar", "table.parquet")], str(tmp_path / "out.jsonl")
    main(["data", "convert", *sources, "-o", out])
    found = read_records(out)
    assert same(found) == same([record for source in sources for record in read_records(source)])
    assert [type(record.media[0].inside) for record in found] == [ByteRange, TableCell]
    assert found[0].media[0].path == sources[0]
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert sorted(first["messages"][0]["content"][0]["inside"]) == ["offset", "size"]


words = st.sampled_from(["q", " ", "\n", "a b", "<media>", "\t", "é"])
times = st.sampled_from([(None, None), (0.0, None), (0.5, 2.0)])
insides = st.sampled_from([None, ByteRange(512, 3), TableCell(2, "c"), TableCell(0, "images", 1, "train")])
paths = st.sampled_from(["/m/a.png", "/far/b c.png"])
rates = st.sampled_from([None, 0.5])
# Arguments of MediumRef: beartype, which checks it, draws lots, and strategies must not.
images = st.tuples(st.just("image"), paths, st.none(), st.none(), st.none(), st.just(()), insides)
videos = st.tuples(st.just("video"), paths, times, rates, insides).map(lambda v: (*v[:2], *v[2], v[3], (), v[4]))
listed = st.tuples(st.lists(paths, min_size=1).map(tuple), times, rates).map(
    lambda v: ("video", v[0][0], *v[1], v[2], v[0], None)
)
shards = st.just(("image", "s3://bucket/shard.tar", None, None, None, (), ByteRange(1, 2)))


@settings(deadline=None, max_examples=25)
@given(
    texts=st.lists(st.lists(words, max_size=6).map("".join), min_size=1, max_size=3),
    system=st.none() | st.sampled_from(["Look.", " "]),
    rejected=st.none() | st.just("worse"),
    data=st.data(),
)
def test_any_record_reads_back(tmp_path_factory, texts, system, rejected, data):
    turns = [] if system is None else [Turn("system", system)]
    for text in texts:
        turns += [Turn("user", text), Turn("assistant", "a")]
    count = sum(text.count("<media>") for text in texts)
    drawn = data.draw(st.lists(images | videos | listed | shards, min_size=count, max_size=count))
    record = Record("x", turns, [MediumRef(*arguments) for arguments in drawn], "c", rejected=rejected)
    try:
        check_record(record)
    except ValueError:
        assume(False)
    file = tmp_path_factory.mktemp("any") / "out.jsonl"
    file.write_text(json.dumps(as_messages(record, file.parent)) + "\n")
    assert same(read_records(file, "/m")) == [record]
    file.write_text(json.dumps(as_messages(record, file.parent / "m")) + "\n")
    assert same(read_records(file)) == [record]


def test_text_is_parted_where_media_are():
    """Written out by hand: lines of their own need no separator, words on one line do."""
    media = [MediumRef("image", "/m/a.png"), MediumRef("video", "/far/v.mp4", 1.0, 2.0)]
    turns = [Turn("user", "<media>\nwhat ?\n<media>"), Turn("assistant", "a")]
    assert as_messages(Record("x", turns, media), Path("/m")) == {
        "id": "x",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "image": "a.png"},
                    {"type": "text", "text": "what ?"},
                    {"type": "video", "video": "/far/v.mp4", "start": 1.0, "end": 2.0},
                ],
            },
            {"role": "assistant", "content": "a"},
        ],
    }
    inline = as_messages(Record("x", [Turn("user", "is <media> red ?")], media[:1]), Path("/m"))["messages"]
    assert inline == [
        {
            "role": "user",
            "separator": "",
            "content": [
                {"type": "text", "text": "is "},
                {"type": "image", "image": "a.png"},
                {"type": "text", "text": " red ?"},
            ],
        }
    ]


def test_broken_records_are_counted_and_listed(write, tmp_path, capsys):
    file, out = write([FORMS[0], "{broken", FORMS[7], {"conversations": []}]), tmp_path / "out.jsonl"
    report = tmp_path / "report.jsonl"
    assert convert(file, "-o", str(out), "--report", str(report)) == 1
    told = capsys.readouterr().out
    assert "2 records are in " in told.replace("\n", " ")
    assert f"{file}:2: got broken JSON" in told
    assert [json.loads(line)["origin"] for line in report.read_text().splitlines()] == [f"{file}:2", f"{file}:4"]
    assert len(list(iter_records(out))) == 2


def test_misuse_exits_with_two(write, tmp_path, capsys):
    file = write(FORMS)
    assert convert(file, "-o", file) == 2
    assert "which exists, expected a new file; name another, or add --overwrite" in capsys.readouterr().err
    assert convert(str(tmp_path / "gone.jsonl"), "-o", str(tmp_path / "out.jsonl")) == 2
    assert convert(file) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.jsonl"]
