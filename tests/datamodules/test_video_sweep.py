"""A sweep gives the frames that `read_video` gives one by one, and keeps few of them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.stream import VideoStream
from torch import Tensor

from ppl.datamodules import video_stream
from ppl.datamodules.sampling import midpoints_at_rate
from ppl.datamodules.video_io import read_video
from ppl.datamodules.video_source import VideoError
from ppl.datamodules.video_sweep import sweep_video

TICK = Fraction(1, 1000)
EVEN = [40 * index for index in range(150)]
UNEVEN = list(accumulate([10, 33, 400, 40, 100, 33, 20, 250] * 7))
OPEN_GOP = "open-gop=1:b-pyramid=2:scenecut=0"


def write_video(
    path: Path,
    pts: list[int] = EVEN,
    codec: str = "libx264",
    *,
    b_frames: int = 0,
    gop: int = 12,
    params: str = "scenecut=0",
) -> Path:
    """Write frames whose brightness says their place among ten."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"x264-params": params} if codec == "libx264" else {})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 32, 32, "yuv420p", gop
        stream.max_b_frames = b_frames
        tick = TICK if codec == "libx264" else Fraction(1, 25)
        stream.codec_context.time_base = stream.time_base = tick
        for index, time in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 + 20 * (index % 10), np.uint8))
            frame.pts, frame.time_base = round(time * TICK / tick), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


CASES: dict[str, dict] = {
    "even.mp4": {},
    "uneven.mkv": {"pts": UNEVEN, "b_frames": 3},
    "open_gop.ts": {"b_frames": 3, "params": OPEN_GOP},
    "one_group.mp4": {"gop": 1000},
    "no_times.mpg": {"codec": "mpeg2video", "b_frames": 2},
    "reordered.avi": {"b_frames": 2, "params": OPEN_GOP},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("start", "end"), [(None, None), (1.7, None), (0.4, 1.9)])
@pytest.mark.parametrize("batch_size", [3, 100])
def test_a_sweep_shows_what_is_on_screen(
    tmp_path: Path, name: str, start: float | None, end: float | None, batch_size: int
) -> None:
    path = write_video(tmp_path / name, **CASES[name])
    batches, seconds = sweep_video(path, torch.clone, fps=4.0, batch_size=batch_size, start=start, end=end)
    length = read_video(path, 1).duration
    first, last = start or 0.0, end or length
    assert seconds == pytest.approx(last - first)
    times = midpoints_at_rate(first, last, 4.0)
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    single = [read_video(path, 1, start=time, end=time + 1e-3).frames for time in times]
    assert torch.equal(torch.cat(batches), torch.cat(single))
    assert len(torch.cat(batches).unique()) > 3, "frames that look alike prove nothing"


@pytest.mark.parametrize("gop", [12, 1000])
def test_every_frame_is_decoded_once(tmp_path: Path, decoded: Callable[[], int], gop: int) -> None:
    path = write_video(tmp_path / "a.mp4", gop=gop)
    sweep_video(path, torch.clone, fps=8.0, batch_size=2)
    assert decoded() == len(EVEN)


def test_a_late_clip_is_not_decoded_from_the_start(tmp_path: Path, decoded: Callable[[], int]) -> None:
    path = write_video(tmp_path / "a.mp4", [40 * index for index in range(1000)])
    sweep_video(path, torch.clone, fps=2.0, batch_size=8, start=38.0)
    assert decoded() <= 50 + 2 * 12  # two seconds, and two groups of pictures at most


def test_frames_are_shown_before_later_ones_are_decoded(tmp_path: Path, decoded: Callable[[], int]) -> None:
    """What has been decoded when a batch is shown is bounded: frames do not pile up."""
    path = write_video(tmp_path / "a.mp4")
    progress, _ = sweep_video(path, lambda frames: decoded(), fps=5.0, batch_size=3)
    assert len(progress) == 10
    assert all(done <= 15 * (index + 1) + 5 for index, done in enumerate(progress))  # 15 source frames a batch


def test_times_found_out_of_order_start_the_sweep_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if FFmpeg's times went backwards in the middle, after batches were shown."""
    from ppl.datamodules import video_sweep

    path = write_video(tmp_path / "a.mp4")
    expected, _ = sweep_video(path, torch.clone, fps=4.0, batch_size=4)
    seen: list[Tensor] = []
    original = video_sweep.shown_at

    def disordered(source, frames, wanted):
        for count, timed in enumerate(original(source, frames, wanted)):
            if source.order is None and count == 10:
                raise video_stream.DisorderError("times go backwards")
            yield timed

    monkeypatch.setattr(video_sweep, "shown_at", disordered)
    found, _ = sweep_video(path, lambda frames: seen.append(frames) or frames.clone(), fps=4.0, batch_size=4)
    assert torch.equal(torch.cat(found), torch.cat(expected))
    assert len(seen) == len(found) + 2


def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.ts", b_frames=2)
    short = tmp_path / "short.mkv"
    content = write_video(tmp_path / "whole.mkv").read_bytes()
    short.write_bytes(content[: len(content) // 2])
    assert sweep_video(whole, torch.clone, fps=2.0, batch_size=4)
    with pytest.raises(VideoError, match=r"short\.mkv: .*decoding stopped"):
        sweep_video(short, torch.clone, fps=2.0, batch_size=4)


def test_damage_before_a_clip_does_not_matter(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    intact, _ = sweep_video(path, torch.clone, fps=4.0, batch_size=4, start=4.0)
    content = bytearray(path.read_bytes())
    content[len(content) // 4 : len(content) // 3] = bytes(len(content) // 3 - len(content) // 4)
    path.write_bytes(content)
    with pytest.raises(VideoError):
        sweep_video(path, torch.clone, fps=4.0, batch_size=4)
    found, _ = sweep_video(path, torch.clone, fps=4.0, batch_size=4, start=4.0)
    assert torch.equal(torch.cat(found), torch.cat(intact))


def test_errors_of_the_request(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match=r"clip \[9.0, None\) s does not fit a video of 6.000 s"):
        sweep_video(path, torch.clone, fps=2.0, batch_size=4, start=9.0)
    with pytest.raises(ValueError, match="batch_size=0, expected at least 1"):
        sweep_video(path, torch.clone, fps=2.0, batch_size=0)
    with pytest.raises(FileNotFoundError, match=r"none\.mp4: no such video file"):
        sweep_video(tmp_path / "none.mp4", torch.clone, fps=2.0, batch_size=4)
