from __future__ import annotations

import hashlib
import os
import shutil

import fsspec
import pytest
from PIL import Image

from ppl.datamodules.medium_files import file_key, local_file
from ppl.datamodules.records import ByteRange, MediumRef


def test_a_file_of_its_own_is_where_it_was(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    with local_file(MediumRef("image", str(path))) as (found, key):
        assert found == path.resolve()
        assert key == file_key(path)
    path.write_bytes(b"xy")
    with local_file(MediumRef("image", str(path))) as (_, after):
        assert after != key


def test_a_part_of_a_file_is_copied_for_a_while(tmp_path):
    path = tmp_path / "shard"
    path.write_bytes(b"0123456789")
    keys = set()
    for inside in (ByteRange(2, 3), ByteRange(5, 3)):
        with local_file(MediumRef("image", str(path), inside=inside)) as (found, key):
            assert found.read_bytes() == path.read_bytes()[inside.offset : inside.offset + inside.size]
            keys.add(key)
        assert not found.exists()
    assert len(keys) == 2
    with (
        pytest.raises(ValueError, match="got 2 of 3 bytes at 8, expected all"),
        local_file(MediumRef("image", str(path), inside=ByteRange(8, 3))),
    ):
        pass


def test_errors_say_what_the_copy_was(tmp_path):
    path = tmp_path / "shard"
    path.write_bytes(b"0123456789")
    with (
        pytest.raises(OSError, match="cannot identify") as error,
        local_file(MediumRef("image", str(path), inside=ByteRange(2, 3))) as (found, _),
    ):
        Image.open(found)
    assert error.value.__notes__ == [f"{found} held ByteRange(offset=2, size=3) of {path}"]


def test_a_large_file_is_known_by_its_size_its_time_and_sixteen_blocks(tmp_path):
    path, copy = tmp_path / "long.mp4", tmp_path / "copy.mp4"
    with path.open("wb") as file:
        file.truncate(40 * 2**20)  # sparse
    before = file_key(path)
    shutil.copy2(path, copy)
    assert file_key(copy) == before
    os.utime(copy, ns=(0, 0))
    assert file_key(copy) != before
    for place in (0, 40 * 2**20 - 1):  # unseen by the clock: only the blocks tell
        changed = tmp_path / f"{place}.mp4"
        shutil.copy2(path, changed)
        with changed.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        shutil.copystat(path, changed)
        assert file_key(changed) != before


def test_a_small_file_is_known_by_all_of_its_content(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for path in (first, second):
        path.write_bytes(b"0123456789")
    os.utime(second, ns=(0, 0))
    assert file_key(first) == file_key(second)
    second.write_bytes(b"0123456788")
    assert file_key(first) != file_key(second)


def test_what_lies_at_a_url_is_copied_for_a_while():
    fsspec.filesystem("memory").pipe("/media/a.mp4", b"0123456789")
    with local_file(MediumRef("video", "memory://media/a.mp4")) as (found, key):
        assert found.read_bytes() == b"0123456789"
    assert key == hashlib.sha256(b"0123456789").hexdigest()
    assert not found.exists()
    with pytest.raises(FileNotFoundError), local_file(MediumRef("video", "memory://media/gone.mp4")):
        pass
