import errno
import multiprocessing
import os
import re
import time
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.modules.feature_storage import FeatureFolder, pack, packed_bytes, unpack

SHAPE = (2, 3, 3, 4)
STORAGES = ["float16", "bfloat16", "float32", "int8"]


def grid_of(key, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(hash(key) % 2**31))


def write(folder, key, shape=SHAPE):
    packed = pack(grid_of(key, shape), folder.storage)
    folder.write(key, packed)
    return packed


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("storage", STORAGES)
def test_sizes_are_known_without_a_grid(storage):
    packed = pack(grid_of("a"), storage)
    assert packed_bytes(*SHAPE, storage) == sum(tensor.nbytes for tensor in packed.values())
    assert unpack(packed).shape == SHAPE


def test_a_video_of_clip_takes_36_mib():
    assert packed_bytes(32, 24, 24, 1024, "float16") == 32 * 24 * 24 * 1024 * 2 == 36 * 2**20
    assert packed_bytes(32, 24, 24, 1024, "int8") == 18 * 2**20 + 4096


def test_reading_maps_the_file_and_allocates_nothing(tmp_path):
    """Linux tells which file an address belongs to."""
    folder = FeatureFolder(tmp_path)
    write(folder, "warm")
    folder.read("warm")
    size = sum(tensor.nbytes for tensor in write(folder, "large", (8, 32, 32, 1024)).values())
    before = own_memory()
    grid = folder.read("large")["grid"]
    assert own_memory() - before < size / 4, "16 MiB would be all of it"
    [(start, end)] = [span for span, name in mappings() if name == str(folder.file("large").resolve())]
    assert start < grid.data_ptr() < grid.data_ptr() + grid.nbytes <= end
    grid.zero_()  # a private mapping: nobody else sees it, and the file stays
    assert same(folder.read("large"), pack(grid_of("large", (8, 32, 32, 1024)), "float16"))


def own_memory():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines["RssAnon"].split()[0])


def mappings():
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, name = line.split(maxsplit=5)
        yield tuple(int(end, 16) for end in span.split("-")), name


@settings(deadline=None, max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans(), zstd=st.booleans())
def test_a_broken_file_is_never_read_as_another_grid(tmp_path_factory, place, bit, cut, zstd):
    folder = FeatureFolder(tmp_path_factory.mktemp("features"), "int8", "zstd" if zstd else "none")
    packed = write(folder, "a")
    file = folder.file("a")
    data = bytearray(file.read_bytes())
    index = int(place * len(data))
    if cut:
        del data[index:]
    else:
        data[index] ^= 1 << bit
    file.write_bytes(data)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = folder.read("a")
    if found is not None:  # zstd's header has a bit that means nothing
        assert same(found, packed)
        return
    [warning] = told
    assert re.search(r"was broken \(.*it is removed and its features are computed again", str(warning.message))
    assert not file.exists()
    assert folder.read("a") is None, "now it is only missing"
    folder.write("a", packed)
    assert same(folder.read("a"), packed)


def test_the_file_of_another_key_is_broken(tmp_path):
    folder = FeatureFolder(tmp_path)
    write(folder, "a")
    folder.file("b").parent.mkdir(exist_ok=True)
    folder.file("a").rename(folder.file("b"))
    with pytest.warns(UserWarning, match="its key or its checksum differs"):
        assert folder.read("b") is None


def _write_on_and_on(path, compression):
    folder = FeatureFolder(path, "float16", compression)
    grids = {str(key): pack(grid_of(str(key), (8, 16, 16, 512)), "float16") for key in range(7)}
    for number in range(10_000):
        folder.write(f"{number % 7}", grids[f"{number % 7}"])


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_process_killed_while_writing_leaves_nothing_that_reads(tmp_path, compression):
    """SIGKILL again and again, until it has hit the middle of a file: what has its name is whole."""
    folder, num_whole, rounds = FeatureFolder(tmp_path, "float16", compression), 0, 0
    while rounds < 4 or not num_whole or not list(tmp_path.rglob("*.partial")):
        writer = multiprocessing.get_context("fork").Process(target=_write_on_and_on, args=(tmp_path, compression))
        writer.start()
        time.sleep(0.2 + 0.017 * rounds)
        writer.kill()
        writer.join()
        assert writer.exitcode == -9
        rounds += 1
        for key in map(str, range(7)):
            found = folder.read(key)  # a broken file would warn, which is an error here
            num_whole += found is not None
            assert found is None or same(found, pack(grid_of(key, (8, 16, 16, 512)), "float16"))


def test_a_writer_stopped_anywhere_leaves_nothing_that_reads(tmp_path):
    """What a kill leaves, made at will: some bytes and no name; it is cleared away an hour later."""
    folder = FeatureFolder(tmp_path)
    write(folder, "a")
    data = folder.file("a").read_bytes()
    folder.file("a").unlink()
    for size in (0, 9, len(data) - 1):
        (folder.file("a").parent / f"{size}.partial").write_bytes(data[:size])
    assert folder.read("a") is None
    assert folder.remove_abandoned() == 0, "somebody may be writing them"
    os.utime(folder.file("a").parent / "9.partial", ns=(0, 0))
    assert folder.remove_abandoned() == 1
    assert len(list(tmp_path.rglob("*.partial"))) == 2


def _write_one(path, number, go):
    folder = FeatureFolder(path)
    go.wait()
    for _ in range(30):
        folder.write("a", pack(torch.full((4, 16, 16, 256), float(number)), "float16"))


def test_two_processes_write_one_key_and_a_reader_sees_one_or_the_other(tmp_path):
    context, folder = multiprocessing.get_context("fork"), FeatureFolder(tmp_path)
    go = context.Event()
    writers = [context.Process(target=_write_one, args=(tmp_path, number, go)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    go.set()
    while any(writer.is_alive() for writer in writers):
        found = folder.read("a")
        assert found is None or found["grid"].unique().tolist() in ([1.0], [2.0])
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert folder.read("a") is not None
    assert not list(tmp_path.rglob("*.partial"))


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = FeatureFolder(tmp_path)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ValueError, match=r"no space left for features in .*set cache.storage: int8, or name"):
        write(folder, "a")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
