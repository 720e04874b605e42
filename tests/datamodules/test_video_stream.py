"""Frame times of containers that store few of them, limits on hostile files, and samplers on real ones.

Reading itself is tested in ``test_video_io.py``.
"""

from __future__ import annotations

import resource
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from ppl.datamodules.frame_sampling import AtRate, KeyFrames, Linspace, SegmentIndices
from ppl.datamodules.video_io import read_video
from ppl.datamodules.video_source import Limits, VideoError
from ppl.datamodules.video_stream import _disorder, _repaired


@pytest.mark.parametrize(
    ("times", "repaired"),
    [
        pytest.param([], (), id="no frames"),
        pytest.param([None, None, None], (0, 10, 20), id="no times: the stated rate"),
        pytest.param([0, 7, 30, 34], (0, 7, 30, 34), id="times in order stay"),
        pytest.param([5, 25, 45, None, None], (5, 25, 45, 65, 85), id="the end goes on at the average rate"),
        pytest.param([None, None, 100, 120], (60, 80, 100, 120), id="so does the start"),
        pytest.param([0, None, 100, 200], (0, 50, 100, 200), id="gaps at no constant rate: spread evenly"),
        pytest.param([0, None, None, None, 20, None], (0, 10, 20, 30, 40, 50), id="jitter at a constant rate"),
        pytest.param([100, 120, 140, 0, 20], (100, 120, 140, 160, 180), id="a clock that starts anew goes on"),
        pytest.param([0, 100, 50, 300], (0, 100, 200, 300), id="a step backwards is dropped"),
    ],
)
def test_repaired(times: list[int | None], repaired: tuple[int, ...]) -> None:
    assert _repaired(times, step=10.0) == repaired


def test_disorder() -> None:
    assert _disorder([1, None, 1, 4]) == 0
    assert _disorder([1, 3, None, 2, 5, 4]) == 2
    assert _disorder([None, None]) > 1000


def assert_refused(path: Path, limits: Limits, match: str) -> None:
    with pytest.raises(VideoError, match=match):
        read_video(path, 2, limits=limits)


@pytest.mark.parametrize(
    ("side", "match"),
    [
        (100_000, r"claims\.mp4: FFmpeg cannot open it"),  # FFmpeg's own limit is at 2**28 pixels
        (10_000, r"claims\.mp4: got frames of 10000 x 10000 pixels, expected at most max_pixels=67108864; drop"),
    ],
)
def test_a_claim_of_enormous_frames_is_refused_before_room_is_made_for_them(
    tmp_path: Path, side: int, match: str
) -> None:
    """Raw frames of 100 000 x 100 000 pixels would be 15 GB each, of 10 000 x 10 000 150 MB."""
    path = tmp_path / "claims.mp4"
    path.write_bytes(f"YUV4MPEG2 W{side} H{side} F25:1 Ip A1:1 C420jpeg\nFRAME\n".encode() + bytes(1000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_refused(path, Limits(), match)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


def test_frames_that_grow_beyond_the_limit_are_not_decoded(tmp_path: Path) -> None:
    """The header is small, later frames are not; a raw stream, which states no length, counts as ending before them."""
    path = tmp_path / "grows.h264"
    small, large = (write_video(tmp_path / f"{size}.h264", 400, size) for size in (64, 256))
    path.write_bytes(small.read_bytes() + large.read_bytes())
    bounded = read_video(path, 10, limits=Limits(max_pixels=128 * 128))
    assert (bounded.frames.shape, bounded.duration) == ((10, 3, 64, 64), 16.0)
    assert read_video(path, 10).duration == 32.0
    header = tmp_path / "header.h264"
    header.write_bytes(large.read_bytes())
    assert_refused(
        header, Limits(max_pixels=128 * 128), r"header\.h264: got frames of 256 x 256 pixels, expected at most"
    )


@pytest.mark.parametrize("name", ["long.h264", "long.mp4"])
def test_packets_without_end_are_an_error(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, 400, 16, gop=1000)
    match = r"got over 300 packets in one look, expected at most max_packets=300; .* or raise the decoder's max_packets"
    assert_refused(path, Limits(max_packets=300), match)
    assert len(read_video(path, 2, limits=Limits(max_packets=500)).frames) == 2


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 4096, b"<html>no such video</html>" * 40, b"\x7fELF" + bytes(range(256)) * 16]
)
def test_files_that_are_no_videos(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "page.mp4"
    path.write_bytes(content)
    assert_refused(path, Limits(), r"page\.mp4: FFmpeg cannot open it \(.*\); download it again or convert it")


def test_a_truncated_file_whose_index_is_gone(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", 100, 64)
    path = tmp_path / "half.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert_refused(path, Limits(), r"half\.mp4: FFmpeg cannot open it")


def test_times_of_key_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "keys.mp4", 100, 64, gop=20)
    clip = read_video(path, 8, sampler=KeyFrames())
    assert clip.timestamps == pytest.approx([0.0, 0.8, 1.6, 2.4, 3.2])
    assert read_video(path, 3, sampler=KeyFrames(), start=0.7, end=2.5).timestamps == pytest.approx([0.8, 1.6, 2.4])
    raw = write_video(tmp_path / "keys.h264", 100, 64, gop=20)
    with pytest.raises(VideoError, match=r"keys\.h264: key frames have no times; convert it: ffmpeg"):
        read_video(raw, 8, sampler=KeyFrames())


def test_samplers_read_what_they_chose(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 100, 64)
    assert read_video(path, 3, sampler=Linspace()).timestamps == pytest.approx([0.0, 49 / 25, 99 / 25])
    assert read_video(path, 9, sampler=AtRate(1.0)).timestamps == pytest.approx([0.0, 1.0, 2.0, 3.0])
    assert read_video(path, 4, sampler=SegmentIndices(), start=1.0, end=2.0).timestamps == pytest.approx(
        [index / 25 for index in (28, 34, 40, 47)]  # seg = 25/4: int(25 + 3.125 + round(6.25 * i))
    )


def write_video(path: Path, count: int, size: int, gop: int = 12) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "x264-params": "scenecut=0"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = size, size, "yuv420p", gop
        for index in range(count):
            pixels = np.full((size, size, 3), index % 200, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    return path
