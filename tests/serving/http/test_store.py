"""Clients' files: each content once, gone when nobody wants them, whatever becomes of the server."""

import stat
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest

from ppl.serving.http.store import FullStoreError, Store


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    store = Store(100, 60.0, tmp_path, clock)
    yield store
    store.close()


def files(store):
    return sorted(path.read_bytes() for path in store.folder.iterdir())


def test_only_its_user_may_look(store):
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.keep(BytesIO(b"a")).path.stat().st_mode) == 0o600


def test_the_same_content_is_the_same_file_until_nobody_wants_it(store):
    first, again, other = (store.keep(BytesIO(content)) for content in (b"same", b"same", b"other"))
    assert first == again != other
    assert (files(store), store.num_bytes) == ([b"other", b"same"], 9)
    store.let_go(first)
    assert files(store) == [b"other", b"same"]
    store.let_go(again)
    assert (files(store), store.num_bytes) == ([b"other"], 5)


def test_the_time_of_change_comes_from_the_content(store):
    """So that `file_key` takes a large file that is sent again later for the same."""
    first = store.keep(BytesIO(b"same"))
    time = first.path.stat().st_mtime_ns
    store.let_go(first)
    assert not first.path.exists()
    assert store.keep(BytesIO(b"same")).path.stat().st_mtime_ns == time
    assert store.keep(BytesIO(b"sama")).path.stat().st_mtime_ns != time


def test_an_upload_is_kept_until_it_is_deleted(store):
    upload = store.upload("a.mp4", BytesIO(b"clip"))
    assert store.find(upload.id) == upload
    held = store.hold(upload.id)
    assert store.delete(upload.id)
    assert not store.delete(upload.id)
    assert store.find(upload.id) is None
    assert store.hold(upload.id) is None
    assert files(store) == [b"clip"]  # a question is about it
    store.let_go(held)
    assert files(store) == []


def test_an_upload_goes_when_it_is_old(store, clock):
    upload = store.upload("a", BytesIO(b"a"))
    clock.now = 59.0
    later = store.upload("b", BytesIO(b"b"))
    assert store.find(upload.id) == upload
    clock.now = 60.0
    store.sweep()
    assert files(store) == [b"b"]
    assert (store.find(upload.id), store.find(later.id)) == (None, later)


def test_the_oldest_uploads_make_room(store):
    oldest, newer = store.upload("a", BytesIO(b"a" * 50)), store.upload("b", BytesIO(b"b" * 50))
    held = store.keep(BytesIO(b"c" * 30))
    assert (store.find(oldest.id), store.find(newer.id)) == (None, newer)
    assert store.num_bytes == 80
    with pytest.raises(FullStoreError):
        store.keep(BytesIO(b"d" * 71))
    assert (files(store), store.num_bytes) == ([b"c" * 30], 30)
    store.let_go(held)


def test_a_file_that_cannot_be_read_leaves_nothing(store):
    class Broken(BytesIO):
        def read(self, size=-1):
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        store.keep(Broken(b"abc"))
    assert (files(store), store.num_bytes) == ([], 0)


def test_room_that_no_file_could_be_made_in_is_free_again(store, monkeypatch):
    """As where too many files are open."""

    def none_left(**_):
        raise OSError("too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkstemp", none_left)
        with pytest.raises(OSError, match="too many"):
            store.keep(BytesIO(b"abc"))
    assert store.num_bytes == 0


def test_a_temporary_file_has_no_name(store):
    with store.temporary() as file:
        file.write(b"a")
        assert files(store) == []


def test_closing_removes_the_folder(tmp_path):
    store = Store(100, 60.0, tmp_path)
    kept = store.keep(BytesIO(b"a"))
    store.close()
    assert list(tmp_path.iterdir()) == []
    store.let_go(kept)  # a question that ends later


def test_what_a_killed_server_left_goes_and_what_a_living_one_has_stays(store, tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from io import BytesIO; from ppl.serving.http.store import Store; "
    )
    code += "Store(9, 9.0, Path(sys.argv[1])).keep(BytesIO(b'x')); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (tmp_path / "ppl-serve-elsewhere").symlink_to(store.folder)
    (tmp_path / "others").mkdir()
    assert len(list(tmp_path.iterdir())) == 4
    another = Store(100, 60.0, tmp_path)
    expected = {store.folder.name, another.folder.name, "others", "ppl-serve-elsewhere"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    another.close()


def test_no_file_stays_open(store):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        store.let_go(store.keep(BytesIO(b"abc")))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
