"""Every frame of these videos carries its index as a bar code, so a test can tell which frame it was given."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.container import OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from torch import Tensor

from ppl.datamodules import video_stream
from ppl.datamodules.sampling import uniform_midpoints
from ppl.datamodules.video_io import probe_video, read_video
from ppl.datamodules.video_source import VideoError

WIDTH, HEIGHT, BITS = 176, 64, 11
MILLISECOND = Fraction(1, 1000)
CONSTANT = [40 * index for index in range(100)]
VARIABLE = list(accumulate([10, 33, 400, 40, 100, 33, 20, 250] * 12))


def barcode(index: int) -> np.ndarray:
    picture = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
    for bit in range(BITS):
        if index >> bit & 1:
            picture[:, bit * 16 : (bit + 1) * 16] = 230
    return picture


def indices(frames: Tensor) -> list[int]:
    assert frames.shape[1:] == (3, HEIGHT, WIDTH)
    bits = [frames[:, :, 24:40, bit * 16 + 4 : bit * 16 + 12].float().mean(dim=(1, 2, 3)) > 125 for bit in range(BITS)]
    return [sum(int(bit[row]) << place for place, bit in enumerate(bits)) for row in range(len(frames))]


def write_video(
    path: Path,
    pts: Sequence[int] = CONSTANT,
    codec: str = "libx264",
    *,
    gop: int = 12,
    b_frames: int = 0,
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    sound: float = 0.0,
    subtitle: tuple[float, float] | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    tick: Fraction = MILLISECOND,
) -> Path:
    """Write one bar code per pts (in ticks), and optionally some seconds of silence."""
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, pix_fmt, gop
        stream.codec_context.time_base = stream.time_base = tick
        stream.max_b_frames = b_frames
        if rotation:
            stream.set_display_rotation(rotation)
        silence = add_silence(container) if sound else None
        words = add_words(container, *subtitle) if subtitle else None
        if words is not None:
            container.mux(words)
        for index, time in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(barcode(index))
            frame.pts, frame.time_base = time, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if silence is not None:
            write_silence(container, silence, sound)
    return path


def add_words(container: OutputContainer, begins: float, ends: float) -> av.Packet:
    text = f"1\n00:00:{begins:06.3f} --> 00:00:{ends:06.3f}\nwords\n".replace(".", ",")
    with av.open(io.BytesIO(text.encode()), format="srt") as written:
        packet = next(written.demux())
        packet.stream = container.add_stream_from_template(written.streams[0])
        return packet


def add_silence(container: OutputContainer) -> av.AudioStream:
    return container.add_stream("aac", rate=16000, layout="mono")


def write_silence(container: OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    for start in range(0, int(seconds * 16000), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def oracle(path: Path, times: Sequence[float]) -> list[int]:
    """Decode everything, then look for the last frame shown by each time."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.start_time is not None
        assert stream.time_base is not None
        first = float(stream.start_time * stream.time_base)
        shown = [(frame.time - first, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
    found = [[pixels for start, pixels in shown if start <= time + 1e-6][-1] for time in times]
    return indices(torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2))


OPEN_GOP = {"x264-params": "open-gop=1:b-pyramid=2:scenecut=0"}
CASES = {
    "constant.mp4": {},
    "constant.mkv": {},
    "constant.ts": {"b_frames": 2},
    "variable.mp4": {"pts": VARIABLE},
    "variable.mkv": {"pts": VARIABLE, "b_frames": 3},
    "b_frames.mp4": {"b_frames": 3},
    "starts_late.mp4": {"pts": [5000 + time for time in CONSTANT], "muxer": {"use_editlist": "0"}},
    "starts_late.mkv": {"pts": [5000 + time for time in CONSTANT], "b_frames": 3},
    "open_gop.mp4": {"b_frames": 3, "options": OPEN_GOP},
    "open_gop.ts": {"b_frames": 3, "options": OPEN_GOP},
    "intra_refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=20"}},
    "one_group.mp4": {"gop": 1000},
    "ten_bit_hevc.mp4": {
        "codec": "libx265",
        "pix_fmt": "yuv420p10le",
        "b_frames": 3,
        "options": {"x265-params": "log-level=none:open-gop=1:keyint=12", "preset": "ultrafast"},
    },
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "av1.mkv": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "mpeg4.avi": {"codec": "mpeg4", "tick": Fraction(1, 25), "pts": range(100)},
    "ffv1.mkv": {"codec": "ffv1"},
    "no_duration.mkv": {"muxer": {"live": "1"}},
    "fragmented.mp4": {"muxer": {"movflags": "frag_keyframe+empty_moov"}},
}


@pytest.mark.parametrize("name", CASES)
def test_frames_are_those_on_screen(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, **CASES[name])
    for num_frames, start, end in ((8, None, None), (5, 1.1, 2.3), (1, 3.0, None)):
        clip = read_video(path, num_frames, start=start, end=end)
        wanted = uniform_midpoints(start or 0.0, end or clip.duration, num_frames)
        assert clip.frames.dtype == torch.uint8
        assert indices(clip.frames) == oracle(path, wanted)
        assert all(shown <= time + 1e-6 for shown, time in zip(clip.timestamps, wanted, strict=True))
    pts = CASES[name].get("pts", CONSTANT)
    length = (pts[-1] - pts[0]) * float(CASES[name].get("tick", MILLISECOND))
    assert clip.duration == pytest.approx(length, abs=0.3)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_is_undone(tmp_path: Path, rotation: int) -> None:
    path = write_video(tmp_path / "turned.mp4", rotation=rotation)
    clip, info = read_video(path, 3), probe_video(path)
    stored = torch.rot90(clip.frames, -rotation // 90, (2, 3))
    assert indices(stored) == oracle(path, uniform_midpoints(0.0, 4.0, 3))
    assert (info.height, info.width) == tuple(clip.frames.shape[2:])
    assert info.rotation == rotation


def test_probing_reads_the_headers(tmp_path: Path) -> None:
    info = probe_video(write_video(tmp_path / "a.mp4"))
    assert info == (pytest.approx(4.0), pytest.approx(25.0), HEIGHT, WIDTH, 0, "h264")


def test_short_videos_repeat_frames(tmp_path: Path) -> None:
    clip = read_video(write_video(tmp_path / "short.mp4", [0, 40, 80]), 8)
    assert indices(clip.frames) == [0, 0, 0, 1, 1, 2, 2, 2]
    assert clip.timestamps == pytest.approx([0, 0, 0, 0.04, 0.04, 0.08, 0.08, 0.08])


def test_the_last_frame_holds_while_sound_goes_on(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long_sound.mp4", sound=6.0)
    assert read_video(path, 4).duration == pytest.approx(4.0, abs=0.1)
    headers_of_the_container_only = write_video(tmp_path / "long_sound.flv", sound=6.0, options={"tune": "zerolatency"})
    clip = read_video(headers_of_the_container_only, 6)
    assert clip.duration == pytest.approx(6.0, abs=0.2)
    assert indices(clip.frames)[-2:] == [99, 99]


def test_cover_art_is_not_the_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        silence = add_silence(container)
        art = container.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 32, 32, "yuvj420p"
        art.disposition = Disposition.attached_pic
        container.mux(art.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(art.encode())
        write_silence(container, silence, 1.0)
    with av.open(str(path)) as container:
        assert container.streams.video[0].disposition & Disposition.attached_pic
    with pytest.raises(VideoError, match=r"song\.mp4: no video stream"):
        read_video(path, 2)


FRAME = Fraction(1, 25)
MPEG2 = {"codec": "mpeg2video", "options": {"b": "2000000"}}
REORDERED = {
    "old.avi": {},
    "old.asf": {},
    "old.mxf": {},
    "old.h264": {},
    "late.asf": {"pts": range(125, 225)},
    "mpeg2.asf": MPEG2,
    "mpeg1.asf": MPEG2 | {"codec": "mpeg1video"},
    "mpeg4.asf": {"codec": "mpeg4"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg2.mpeg": MPEG2,
    "mpeg2.vob": MPEG2,
    "mpeg1.mpeg": MPEG2 | {"codec": "mpeg1video"},
    "h264.mpeg": {},
    "mpeg2.ts": MPEG2,
    "new.ts": {},
    "new.mov": {},
    "new.nut": {},
    "late.nut": {"pts": range(125, 225)},
    "late.flv": {"pts": range(125, 225)},
    "late.mov": {"pts": range(125, 225)},
}


@pytest.mark.parametrize("name", REORDERED)
def test_frames_stored_out_of_order_are_put_in_order(tmp_path: Path, name: str) -> None:
    """At 25 frames a second the index of the frame on screen is known without decoding."""
    path = write_video(tmp_path / name, **{"pts": range(100), "b_frames": 2, "tick": FRAME} | REORDERED[name])
    for num_frames, start, end in ((8, None, None), (100, None, None), (5, 1.1, 2.3), (1, 3.0, None)):
        clip = read_video(path, num_frames, start=start, end=end)
        assert clip.duration == pytest.approx(4.0)
        wanted = [int(time * 25 + 1e-6) for time in uniform_midpoints(start or 0.0, end or 4.0, num_frames)]
        assert indices(clip.frames) == wanted
        assert clip.timestamps == pytest.approx([index / 25 for index in wanted], abs=1e-3)
    assert probe_video(path).fps == pytest.approx(25)


def test_frames_without_even_spacing_are_put_in_order(tmp_path: Path) -> None:
    path = write_video(tmp_path / "variable.asf", VARIABLE, b_frames=2)
    clip = read_video(path, 50, end=10.0)
    expected = [
        max(i for i, pts in enumerate(VARIABLE) if pts - 10 <= 1000 * t) for t in uniform_midpoints(0.0, 10.0, 50)
    ]
    assert indices(clip.frames) == expected


def test_times_found_out_of_order_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_stream, "_STORES_TIMES", {"avi"})
    path = write_video(tmp_path / "old.avi", range(100), b_frames=2, tick=FRAME)
    assert indices(read_video(path, 8).frames) == [6, 18, 31, 43, 56, 68, 81, 93]


@pytest.mark.parametrize("name", ["old.avi", "h264.mpeg", "mpeg2.mpeg"])
def test_damage_is_an_error_whatever_the_order(tmp_path: Path, name: str) -> None:
    path = write_video(
        tmp_path / name, **{"pts": range(100), "b_frames": 2, "tick": FRAME, "gop": 1000} | REORDERED[name]
    )
    content = bytearray(path.read_bytes())
    start, size = packet_place(path, 50) if name == "old.avi" else (len(content) * 4 // 10, 200)
    content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"damaged .*decoding stopped at [12]\.\d+ s, before the frame wanted"):
        read_video(path, 4)
    assert indices(read_video(path, 2, end=1.0).frames) == [6, 18]


@pytest.mark.parametrize("begins", [2.0, 5.0])
def test_the_last_frame_holds_while_subtitles_go_on(tmp_path: Path, begins: float) -> None:
    path = tmp_path / "words.mkv"
    write_video(path, subtitle=(begins, 6.0))
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"OTHERTAG"))  # leave the container's length only
    clip = read_video(path, 6)
    assert clip.duration == pytest.approx(6.0, abs=0.1)
    assert indices(clip.frames) == [12, 37, 62, 87, 99, 99]


def test_a_long_subtitle_does_not_hide_that_a_file_is_cut_short(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.mkv", [40 * index for index in range(300)], subtitle=(0.5, 14.0))
    content = path.read_bytes().replace(b"DURATION", b"OTHERTAG")
    path.write_bytes(content[: len(content) * 95 // 100])
    with pytest.raises(VideoError, match=r"cut\.mkv: cut short; decoding stopped at 1[01]\."):
        read_video(path, 14)


def test_the_first_of_several_streams_is_read(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(20):
            for offset, stream in enumerate(streams):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(barcode(index + 1000 * offset))))
        for stream in streams:
            container.mux(stream.encode())
    assert indices(read_video(path, 2).frames) == [5, 15]


def test_cost_does_not_grow_with_length(tmp_path: Path, decoded: Callable[[], int]) -> None:
    path = write_video(tmp_path / "long.mp4", [40 * index for index in range(1500)], gop=50, b_frames=2)
    clip = read_video(path, 8)
    assert indices(clip.frames) == [93, 281, 468, 656, 843, 1031, 1218, 1406]
    before = decoded()
    assert before <= 8 * 60
    read_video(path, 8, start=59.5)
    assert decoded() - before <= 60  # one group of pictures, decoded once


def test_errors_of_the_request(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    for start, end in ((4.0, None), (9.0, 10.0), (2.0, 2.0), (3.0, 1.0), (-1.0, 2.0)):
        with pytest.raises(VideoError, match=r"a\.mp4: clip .* does not fit a video of 4\.000 s; use 0 <= start"):
            read_video(path, 2, start=start, end=end)
    with pytest.raises(ValueError, match="num_frames=0"):
        read_video(path, 0)
    assert indices(read_video(path, 1, start=3.0, end=99.0).frames) == [87]


def test_errors_of_files_without_video(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4: no such video file"):
        read_video(tmp_path / "gone.mp4", 2)
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    with pytest.raises(VideoError, match=r"text\.mp4: FFmpeg cannot open it"):
        read_video(tmp_path / "text.mp4", 2)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        write_silence(container, add_silence(container), 1.0)
    with pytest.raises(VideoError, match=r"sound\.mp4: no video stream"):
        read_video(tmp_path / "sound.mp4", 2)


def test_errors_of_files_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "empty.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        write_silence(container, add_silence(container), 1.0)
    with pytest.raises(VideoError, match=r"empty\.mkv: its video stream has no frames; drop the record"):
        read_video(path, 2)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_truncated_files_say_where_they_end(tmp_path: Path, name: str) -> None:
    muxer = {"movflags": "faststart"} if name.endswith("mp4") else {}
    whole = write_video(tmp_path / f"whole_{name}", muxer=muxer).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(
        VideoError, match=rf"{name}: .*decoding stopped at [12]\.\d+ s, before the frame wanted at [123]\."
    ):
        read_video(tmp_path / name, 4)
    assert indices(read_video(tmp_path / name, 2, end=1.0).frames) == [6, 18]


@pytest.mark.parametrize("options", [{}, {"slices": "4"}])
def test_overwritten_bytes_are_an_error(tmp_path: Path, options: dict[str, str]) -> None:
    path = write_video(tmp_path / "damaged.mp4", gop=1000, options=options)
    content = bytearray(path.read_bytes())
    start, size = packet_place(path, 50)
    content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"damaged\.mp4: damaged .*decoding stopped at 1\.9\d+ s, before .* 2\.500 s"):
        read_video(path, 4)
    assert indices(read_video(path, 2, end=1.0).frames) == [6, 18]


def packet_place(path: Path, index: int) -> tuple[int, int]:
    with av.open(str(path)) as container:
        packet = list(container.demux(video=0))[index]
        assert packet.pos is not None
        return packet.pos, packet.size
