"""Every decoder gives the same frames; bar codes say which they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from ppl.datamodules.decoders.encoded_video import EncodedVideoDecoder, PyTorchVideoClips
from ppl.datamodules.decoders.pyav import PyAVDecoder
from ppl.datamodules.decoders.torchcodec import TorchCodecDecoder
from ppl.datamodules.frame_sampling import AtRate, Linspace, Midpoints, Timeline
from ppl.datamodules.video_io import read_video
from ppl.datamodules.video_source import VideoError
from ppl.extras import MissingExtraError
from tests.datamodules.test_video_io import CASES, FRAME, REORDERED, VARIABLE, indices, oracle, write_video

COMPARE = """
import json, sys
import ppl.datamodules.decoders.torchcodec as module
from ppl.datamodules.decoders.pyav import PyAVDecoder
from ppl.datamodules.frame_sampling import Linspace, Midpoints

decode, decoded = module._decode, []
module._decode = lambda *arguments: decoded.append(decode(*arguments)) or decoded[-1]
ours, theirs, rows = PyAVDecoder(), module.TorchCodecDecoder(), []
for path in sys.argv[1:]:
    for sampler, start, end in ((Midpoints(), None, None), (Linspace(), None, None), (Midpoints(), 1.1, 2.3)):
        decoded.clear()
        one, two = (decoder.read(path, sampler, 8, start, end) for decoder in (ours, theirs))
        seconds = max(abs(a - b) for a, b in zip(one.timestamps, two.timestamps, strict=True))
        grey = int((one.frames.int() - two.frames.int()).abs().max())
        rows.append([path, seconds, grey, any(clip is not None for clip in decoded)])
print(json.dumps(rows))
"""
BY_TORCHCODEC = {
    "constant.mp4": {},
    "variable.mkv": {"pts": VARIABLE, "b_frames": 3},
    "variable.mp4": {"pts": VARIABLE},
    "edit_list.mp4": {"b_frames": 3},
    "late.mov": REORDERED["late.mov"] | {"b_frames": 2, "tick": FRAME},
    "starts_late.mkv": CASES["starts_late.mkv"],
    "open_gop.mp4": CASES["open_gop.mp4"],
    "one_group.mp4": {"gop": 1000},
    "turned_90.mp4": {"rotation": 90},
    "turned_180.mp4": {"rotation": 180},
    "turned_270.mp4": {"rotation": 270},
    "vp9.webm": CASES["vp9.webm"],
    "fragmented.mp4": CASES["fragmented.mp4"],
}
BY_PYAV = {
    "constant.ts": CASES["constant.ts"],
    "intra_refresh.mp4": CASES["intra_refresh.mp4"],
    "old.avi": {"pts": range(100), "b_frames": 2, "tick": FRAME},
}


def pyav_libraries(folder: Path) -> str:
    """Name FFmpeg's libraries inside PyAV's wheel as the loader expects; without them the system's serve."""
    assert av.__file__ is not None
    folder.mkdir()
    for file in (Path(av.__file__).parents[1] / "av.libs").glob("lib*.so.*"):
        name = re.fullmatch(r"(lib(?:av|sw)\w+)-\w+\.so\.(\d+).*", file.name)
        if name:
            (folder / f"{name[1]}.so.{name[2]}").symlink_to(file)
    return str(folder)


def test_torchcodec_gives_the_same_frames(tmp_path: Path) -> None:
    """In a process of its own, as the loader looks for libraries where the environment said at its start.

    Grey levels may differ by 8 of 255: both convert colours with FFmpeg, but by other routes.
    """
    paths = [str(write_video(tmp_path / name, **case)) for name, case in (BY_TORCHCODEC | BY_PYAV).items()]
    environment = os.environ | {"LD_LIBRARY_PATH": pyav_libraries(tmp_path / "libraries")}
    command = [sys.executable, "-c", COMPARE, *paths]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    assert len(rows) == 3 * len(paths)
    for path, seconds, grey, by_torchcodec in rows:
        assert (seconds < 1e-6, grey <= 8, by_torchcodec) == (True, True, Path(path).name in BY_TORCHCODEC), path


def test_a_torchcodec_that_cannot_be_loaded_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(MissingExtraError, match=r"'ppl\[torchcodec\]' and FFmpeg's shared libraries .* PyAVDecoder"):
        TorchCodecDecoder()


@pytest.mark.parametrize("name", ["constant.mp4", "variable.mkv", "variable.mp4", "edit_list.mp4", "starts_late.mkv"])
def test_encoded_video_gives_the_same_frames(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, **BY_TORCHCODEC[name])
    for sampler, start, end in ((Midpoints(), None, None), (Linspace(), 1.1, 2.3), (AtRate(2.0), None, 1.0)):
        ours = PyAVDecoder().read(path, sampler, 5, start, end)
        theirs = EncodedVideoDecoder().read(path, sampler, 5, start, end)
        assert indices(theirs.frames) == indices(ours.frames) == oracle(path, list(ours.timestamps))
        assert torch.equal(theirs.frames, ours.frames)
        assert theirs.duration == ours.duration
        assert all(asked >= shown for asked, shown in zip(theirs.timestamps, ours.timestamps, strict=True))


def test_encoded_video_refuses_files_without_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "old.avi", **BY_PYAV["old.avi"])
    with pytest.raises(VideoError, match=r"old\.avi: avi does not store when frames are shown, .* or use PyAVDecoder"):
        EncodedVideoDecoder().read(path, Midpoints(), 2, None, None)


def clip_of(length: float, start: float = 0.0, size: int = 1) -> Timeline:
    return Timeline(start, start + length, start + length, 25.0, size, lambda: [0.0])


def test_pytorchvideo_s_clips() -> None:
    def constant(clips: int) -> PyTorchVideoClips:
        return PyTorchVideoClips("constant_clips_per_video", clip_duration=2.0, clips_per_video=clips)

    # clips of 2 s that begin at 0, 8/3 and 16/3 s
    assert constant(3).times(clip_of(10.0), 6) == pytest.approx(
        [0.5, 1.5, 8 / 3 + 0.5, 8 / 3 + 1.5, 16 / 3 + 0.5, 16 / 3 + 1.5]
    )
    assert constant(1).times(clip_of(10.0, start=5.0), 2) == [5.5, 6.5]
    assert PyTorchVideoClips("uniform", 2.0).times(clip_of(7.0), 3) == [1.0, 3.0, 5.0]
    assert PyTorchVideoClips("uniform", 2.0).times(clip_of(1.0), 2) == [0.25, 0.75]
    assert len(PyTorchVideoClips("uniform", 0.5).times(clip_of(10.0), 3)) == 3


def test_pytorchvideo_s_random_clips_depend_on_seed_epoch_and_clip_only() -> None:
    sampler = PyTorchVideoClips("random", 2.0, seed=3)
    assert sampler.is_random
    assert not PyTorchVideoClips("uniform", 2.0).is_random
    first = sampler.times(clip_of(60.0), 4)
    assert first == PyTorchVideoClips("random", 2.0, seed=3).times(clip_of(60.0), 4)
    assert Fraction(first[-1] - first[0]) == pytest.approx(1.5)
    assert first != sampler.times(clip_of(60.0, size=2), 4)
    sampler.set_epoch(1)
    assert first != sampler.times(clip_of(60.0), 4)


def test_errors_say_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"got clip_duration=0\.0, clips_per_video=1, expected more than 0; raise it"):
        PyTorchVideoClips(clip_duration=0.0)
    with pytest.raises(ValueError, match="got num_frames=0, expected at least 1"):
        PyTorchVideoClips().times(clip_of(3.0), 0)
    monkeypatch.setitem(sys.modules, "pytorchvideo.data.clip_sampling", None)
    with pytest.raises(MissingExtraError, match=r"a pytorchvideo that loads \(.*\), .* 'ppl\[pytorchvideo\]', or use"):
        EncodedVideoDecoder()


def test_pyav_is_the_reader(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    assert torch.equal(
        PyAVDecoder().read(path, Midpoints(), 4, 1.0, 3.0).frames, read_video(path, 4, start=1.0, end=3.0).frames
    )
    with pytest.raises(VideoError, match=r"expected at most max_pixels=100; drop"):
        PyAVDecoder(max_pixels=100).read(path, Midpoints(), 4, None, None)
    with pytest.raises(VideoError, match=r"expected at most max_packets=5; drop"):
        PyAVDecoder(max_packets=5).read(path, Linspace(), 4, None, 0.9)
