import base64
import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ppl.datamodules.benchmark_samples import medium_ref
from ppl.datamodules.medium_files import local_file
from ppl.evaluation.image_files import parquet_files, read_base64_table, read_json, read_json_lines
from ppl.evaluation.items import Cell, Medium
from ppl.evaluation.tables import read_parquet


def png(grey):
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), grey, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def shown(medium):
    with local_file(medium_ref(medium)) as (file, _), Image.open(file) as image:
        return int(np.asarray(image)[0, 0, 0])


def write_table(file, rows, **options):
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t", lineterminator="\n", **options)
        writer.writeheader()
        writer.writerows(rows)


def test_an_image_within_parquet_is_read_where_it_is(tmp_path):
    columns = {
        "one": [{"bytes": png(7), "path": "a.png"}],
        "many": [[{"bytes": png(8), "path": ""}, {"bytes": png(9), "path": ""}]],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    media = [Medium("image", str(tmp_path / "t.parquet"), inside=cell) for cell in (Cell(0, "one"), Cell(0, "many", 1))]
    assert [shown(medium) for medium in media] == [7, 9]


def test_an_image_in_base64_is_read_where_it_is_and_shared_by_its_number(tmp_path):
    rows = [
        {"index": "3", "question": 'What is "this"?\nAnd\tthat é?', "image": base64.b64encode(png(1)).decode()},
        {"index": "4", "question": "plain", "image": base64.b64encode(png(200)).decode()},
        {"index": "1000003", "question": "again", "image": "3"},
    ]
    write_table(tmp_path / "t.tsv", rows)
    found = read_base64_table(tmp_path / "t.tsv", "image", "questions")
    assert [row for row, _ in found] == [{"index": r["index"], "question": r["question"]} for r in rows]
    assert [shown(medium) for _, medium in found] == [1, 200, 1]
    assert found[0][1] == found[2][1]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_any_text_beside_images_comes_back(tmp_path_factory, texts):
    file = tmp_path_factory.mktemp("tsv") / "t.tsv"
    write_table(file, [{"index": f"n{i}", "image": "QUJD" * 9, "text": text} for i, text in enumerate(texts)])
    found = read_base64_table(file, "image", "questions")
    assert [row["text"] for row, _ in found] == texts
    for _, medium in found:
        with local_file(medium_ref(medium)) as (path, _):
            assert path.read_bytes() == b"ABC" * 9


def test_what_is_missing_is_told(tmp_path):
    for read in (lambda file: read_json(file, "x's questions"), lambda file: read_json_lines(file, "x's questions")):
        with pytest.raises(FileNotFoundError, match=r"got no .*none, expected x's questions: set the benchmark's root"):
            read(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"got no val-\*.parquet below .*, expected x's questions"):
        parquet_files(tmp_path, "val-*.parquet", "x's questions")
    (tmp_path / "t.tsv").write_text("index\tquestion\n1\t2\n")
    with pytest.raises(ValueError, match=r"columns \['index', 'question'\], expected 'image' among them"):
        read_base64_table(tmp_path / "t.tsv", "image", "x's questions")
    (tmp_path / "t.tsv").write_text("index\timage\n1\n")
    with pytest.raises(ValueError, match="got a row of 1 cells, expected 2"):
        read_base64_table(tmp_path / "t.tsv", "image", "x's questions")


@pytest.mark.parametrize("content", [b"", b'{"a": [1,', bytes(range(256))])
def test_a_file_that_is_cut_off_or_no_such_file_is_named(content, tmp_path):
    file = tmp_path / "a.file"
    file.write_bytes(content or b"\x00")
    for read, what in ((read_json, "questions"), (read_json_lines, "questions")):
        with pytest.raises(
            ValueError, match=r"got .*a.file, which cannot be read \(.*\), expected questions: fetch it"
        ):
            read(file, what)
    with pytest.raises(ValueError, match=r"got .*a.file, which cannot be read \(.*\), expected a Parquet file: fetch"):
        read_parquet(file, ["a"])
