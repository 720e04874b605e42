from __future__ import annotations

import pytest

from ppl.datamodules.missing_media import check_media_exist, missing_media
from ppl.datamodules.records import ByteRange, MediumRef, Record


def record(name, *media):
    return Record(name, [], list(media), origin=f"a.jsonl:{name}")


def test_each_missing_path_has_its_records(tmp_path):
    there, gone = tmp_path / "there.png", str(tmp_path / "gone.png")
    there.touch()
    (tmp_path / "frames").mkdir()
    records = [
        record("1", MediumRef("image", str(there)), MediumRef("image", gone), MediumRef("image", gone)),
        record("2", MediumRef("video", str(tmp_path / "frames"))),
        record("3", MediumRef("video", str(there), frames=(str(there), gone, "/far/gone.png"))),
        record("4", MediumRef("image", "gone.tar", inside=ByteRange(0, 1))),  # found with its record
        record("5"),
    ]
    missing = missing_media(records)
    assert {path: [found.id for found in of] for path, of in missing.items()} == {
        gone: ["1", "3"],
        "/far/gone.png": ["3"],
    }
    assert missing_media(records[1:2]) == {}
    with pytest.raises(FileNotFoundError) as error:
        check_media_exist(records)
    assert str(error.value).splitlines() == [
        "got 2 of 4 media files missing, expected all of them; set media_root or fix the paths:",
        f"  {gone} (a.jsonl:1)",
        "  /far/gone.png (a.jsonl:3)",
    ]
    check_media_exist(records[1:2])


def test_a_folder_that_may_not_be_read_hides_its_media(monkeypatch):
    def refuse(path, **options):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.stat", refuse)
    assert list(missing_media([Record("r", [], [MediumRef("image", "/private/a.png")])])) == ["/private/a.png"]
