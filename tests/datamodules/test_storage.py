"""Kinds of files: what is written by tarfile, pyarrow or datasets reads back as the records of the same JSON."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.datamodules.annotations import iter_records, read_records
from ppl.datamodules.medium_files import local_file
from ppl.datamodules.records import ByteRange, MediumRef, TableCell
from ppl.datamodules.storage import json_text, saved_dataset
from ppl.extras import MissingExtraError

TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


def content(ref):
    with local_file(ref) as (path, _):
        return path.read_bytes()


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=25)
@given(values=st.lists(JSON, max_size=4), indent=st.sampled_from([None, 2]), ascii_only=st.booleans())
def test_lists_are_parsed_as_json_does(tmp_path_factory, values, indent, ascii_only):
    path = tmp_path_factory.mktemp("json") / "list.json"
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only) + "\n"
    path.write_text(text, errors="surrogatepass") if ascii_only else path.write_bytes(text.encode(errors="replace"))
    found = list(json_text.items(str(path)))
    assert [item.value for item in found] == json.loads(path.read_text())


def test_items_of_a_list_name_their_line(tmp_path):
    path = tmp_path / "list.json"
    path.write_text('[\n {"a":\n 1},\n\n 2]')
    assert [item.origin for item in json_text.items(str(path))] == [f"{path}:2, item 0", f"{path}:5, item 1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2", ":1: got broken JSON \\(Expecting ',' delimiter, column 6\\)"),
        ("[1,\n]", ":2: got broken JSON \\(Expecting value, column 1\\)"),
        ("[1] 2", ":1: got broken JSON \\(Extra data"),
    ],
)
def test_broken_lists_end_with_an_error(tmp_path, text, message):
    path = tmp_path / "list.json"
    path.write_text(text)
    *_, error = json_text.items(str(path))
    with pytest.raises(ValueError, match=message):
        raise error
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def test_compressed_text_is_refused(tmp_path):
    path = tmp_path / "data.json"
    path.write_bytes(gzip.compress(json.dumps([{"conversations": TURNS}]).encode()))
    (error,) = iter_records(path)
    assert "got bytes that are no UTF-8 text; expected one JSON list" in str(error)


def test_tar(tmp_path):
    path = tmp_path / "shard.tar"
    named = {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": "b.0.png"}, {"type": "text", "text": "q"}]}
        ]
    }
    files = {
        "a.json": json.dumps({"conversations": TURNS}).encode(),
        "a.1.png": b"one",
        "a.0.png": b"zero",
        "a.mp4": b"film",
        "b.0.png": b"b",
        "b.json": json.dumps(named).encode(),
        "c.json": json.dumps({"conversations": TURNS, "image": "png", "id": "c"}).encode(),
        "c.png": b"c",
        "d.png": b"d",
        "e.json": b"{",
    }
    write_tar(path, files)
    a, b, c, d, e = iter_records(path)
    assert [content(ref) for ref in a.media] == [b"film", b"one", b"zero"]
    assert [ref.kind for ref in a.media] == ["video", "image", "image"]
    assert a.id == "shard.tar, sample 'a'"
    assert isinstance(b.media[0].inside, ByteRange)
    assert [content(ref) for ref in (*b.media, *c.media)] == [b"b", b"c"]
    assert c.media[0].files == ()
    assert f"{path}, sample 'd': got the files ['png']; expected one .json among them" in str(d)
    assert f"{path}, sample 'e': got broken JSON" in str(e)


def test_a_tar_cut_short_ends_with_an_error(tmp_path):
    path = tmp_path / "shard.tar"
    write_tar(path, {"a.json": json.dumps({"conversations": TURNS}).encode(), "a.png": b"x" * 2000})
    path.write_bytes(path.read_bytes()[:2000])
    *_, error = iter_records(path)
    assert "got a tar that cannot be read to its end" in str(error)


@pytest.fixture
def table():
    """Five rows: an image as Hugging Face writes it, bare bytes, two in a list, none, and one that is a file."""
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    turns = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
    return pa.table(
        {
            "conversations": pa.array([TURNS] * 5, turns),
            "image": pa.array(
                [{"bytes": b"one", "path": "1.png"}, None, None, None, {"bytes": None, "path": "FILE"}], picture
            ),
            "video": pa.array([None, b"film", None, None, None], pa.binary()),
            "images": pa.array(
                [None, None, [{"bytes": b"x", "path": None}, {"bytes": b"y", "path": None}], None, None],
                pa.list_(picture),
            ),
            "score": pa.array([0.5] * 5),
        }
    )


def check(records, path):
    one, film, two, words, _ = records
    assert one.media == [MediumRef("image", str(path), inside=TableCell(0, "image"))]
    assert [content(ref) for ref in (*one.media, *film.media, *two.media)] == [b"one", b"film", b"x", b"y"]
    assert (film.media[0].kind, two.media[1].inside) == ("video", TableCell(2, "images", 1))
    assert (words.media, words.turns[0].text) == ([], "q")
    assert one.id == f"{path.name}:row 0"


@pytest.mark.parametrize("row_group_size", [1, 2, 10])
def test_parquet(tmp_path, table, row_group_size):
    path = tmp_path / "data"
    pq.write_table(table, path, row_group_size=row_group_size)
    records = read_records(path)
    check(records, path)
    assert len(records) == 5


def test_parquet_cells_may_name_a_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"on disk")
    cell = {"bytes": None, "path": str(tmp_path / "a.png")}
    pq.write_table(pa.table({"conversations": [TURNS], "image": [cell]}), tmp_path / "data")
    (record,) = read_records(tmp_path / "data")
    assert content(record.media[0]) == b"on disk"


def test_parquet_does_not_read_the_bytes_of_media(tmp_path):
    """The reader asks for the leaves beside them only."""
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    big = pa.array([[{"bytes": bytes(1_000_000), "path": None}]] * 5, pa.list_(picture))
    pq.write_table(pa.table({"conversations": [TURNS] * 5, "images": big}), tmp_path / "data", compression="none")
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() for _ in iter_records(tmp_path / "data")) - before
    assert most < 1_000_000


def test_parquet_cut_short(tmp_path, table):
    pq.write_table(table, tmp_path / "data")
    (tmp_path / "data").write_bytes((tmp_path / "data").read_bytes()[:-20])
    (error,) = iter_records(tmp_path / "data")
    assert "got Parquet that cannot be read to its end" in str(error)


def test_saved_dataset(tmp_path, table):
    datasets.Dataset(table).save_to_disk(tmp_path / "saved")
    check(read_records(tmp_path / "saved"), tmp_path / "saved")
    with pytest.raises(ValueError, match="got split 'train'; expected none: the folder holds one table"):
        read_records(tmp_path / "saved", split="train")


def test_saved_splits(tmp_path, table):
    path = tmp_path / "splits"
    datasets.DatasetDict({"train": datasets.Dataset(table), "test": datasets.Dataset(table[:1])}).save_to_disk(path)
    (record,) = read_records(path, split="test")
    assert record.media[0].inside == TableCell(0, "image", split="test")
    assert content(record.media[0]) == b"one"
    with pytest.raises(ValueError, match="got split None; expected one of train, test; set split"):
        read_records(path)


def test_load_dataset_and_streams(tmp_path, table, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "hub"
    folder.mkdir()
    pq.write_table(table, folder / "train.parquet")
    records = read_records(folder, split="train")
    assert content(records[2].media[1]) == b"y"
    (refused,) = iter_records(folder, split="train", streaming=True)
    assert "got media in the columns ['image', 'images', 'video'] of a stream; expected files on disk" in str(refused)
    (folder / "train.parquet").unlink()
    (folder / "train.jsonl").write_text(json.dumps({"conversations": TURNS, "image": "a.png"}) + "\n")
    saved_dataset._open.cache_clear()
    (streamed,) = read_records(folder, split="train", streaming=True)
    assert streamed.media == [MediumRef("image", str(folder / "a.png"))]


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got a folder; expected one that save_to_disk of Hugging Face datasets wrote"):
        read_records(tmp_path)


def test_without_pyarrow_the_extra_is_named(tmp_path, table, monkeypatch):
    import sys

    pq.write_table(table, tmp_path / "data")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"got a table without pyarrow, expected .* 'ppl\[tables\]'"):
        read_records(tmp_path / "data")
