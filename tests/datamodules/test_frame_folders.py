"""Frames from folders and lists; the oracle is a list of what is on screen at each millisecond."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ppl.datamodules import frame_folders
from ppl.datamodules.frame_folders import is_frames
from ppl.datamodules.frame_sampling import AtRate, KeyFrames, Linspace, Midpoints, RandomInSegment, SegmentIndices
from ppl.datamodules.processing import Processor
from ppl.datamodules.records import MediumRef
from ppl.datamodules.video_io import read_video


def write(folder, names, size=(4, 2)):
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        Image.new("RGB", size, (index, 0, 0)).save(folder / name)
    return [str(folder / name) for name in names]


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ten") / "frames"
    write(folder, [f"frame_{index}.png" for index in range(1, 11)])
    (folder / "notes.txt").touch()
    return str(folder)


def read_frames(ref, num_frames):
    return frame_folders.read_frames(ref, num_frames, Midpoints())


def order(clip):
    return clip.frames[:, 0, 0, 0].tolist()


def test_numbers_are_sorted_as_numbers(ten):
    clip, _ = read_frames(MediumRef("video", ten), 10)
    assert order(clip) == list(range(10))
    assert (clip.timestamps, clip.duration) == ((), 0.0)


def test_lists_keep_their_order(tmp_path):
    files = write(tmp_path / "frames", ["b.png", "a.png"])
    clip, _ = read_frames(MediumRef("video", files[0], fps=2.0, frames=tuple(files)), 4)
    assert order(clip) == [0, 0, 1, 1]
    assert (clip.timestamps, clip.duration) == ((0.0, 0.0, 0.5, 0.5), 1.0)


@settings(deadline=None, max_examples=25)
@given(
    fps=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    num_frames=st.integers(1, 12),
    clip=st.sampled_from([(None, None), (1.0, None), (None, 1.0), (0.5, 2.0), (1.0, 99.0)]),
)
def test_frames_are_those_on_screen(ten, fps, num_frames, clip):
    start, end = clip
    on_screen = np.arange(10).repeat(int(1000 / fps))[
        int((start or 0) * 1000) : None if end is None else int(end * 1000)
    ]
    middles = [int(len(on_screen) * (index + 0.5) / num_frames) for index in range(num_frames)]
    found, _ = read_frames(MediumRef("video", ten, start, end, fps), num_frames)
    assert order(found) == [on_screen[middle] for middle in middles]
    assert found.timestamps == tuple(index / fps for index in order(found))
    assert found.duration == 10 / fps


def test_the_key_follows_the_files(tmp_path):
    files = write(tmp_path / "frames", ["1.png", "2.png"])
    ref = MediumRef("video", str(tmp_path / "frames"))
    before, again = read_frames(ref, 2)[1], read_frames(ref, 2)[1]
    Image.new("RGB", (4, 2), "white").save(files[1], compress_level=0)
    assert before == again != read_frames(ref, 2)[1]


def test_what_is_refused(tmp_path, ten):
    write(tmp_path / "mixed", ["1.png"])
    Image.new("RGB", (8, 8)).save(tmp_path / "mixed/2.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"got frames of the sizes \[\(2, 4\), \(8, 8\)\]; expected one size"):
        read_frames(MediumRef("video", str(tmp_path / "mixed")), 2)
    with pytest.raises(ValueError, match="got a folder without images; expected frames"):
        read_frames(MediumRef("video", str(tmp_path / "empty")), 2)
    with pytest.raises(ValueError, match="got a clip of frames without a rate; expected frames a second"):
        read_frames(MediumRef("video", ten, start=1.0), 2)
    with pytest.raises(ValueError, match=r"got a clip \[11.0, None\) s; expected one inside \[0, 10.000\) s"):
        read_frames(MediumRef("video", ten, start=11.0, fps=1.0), 2)


def test_a_processor_reads_them(input_spec, ten, media_folder):
    processor = Processor(input_spec, num_frames=4)
    medium = processor.read(MediumRef("video", ten, fps=2.0, num_frames=2))
    assert (medium.kind, medium.frames.shape, medium.times, medium.duration) == ("video", (2, 3, 2, 4), (1.0, 3.5), 5.0)
    assert medium.frames.dtype == torch.uint8
    with pytest.raises(ValueError, match=r"got fps 2.0 on a video file; expected a rate for frames only"):
        processor.read(MediumRef("video", str(media_folder / "clip.mp4"), fps=2.0))
    assert processor.read(MediumRef("video", str(media_folder / "clip.mp4"), num_frames=3)).frames.shape[0] == 3
    assert not is_frames(MediumRef("image", ten))


@pytest.fixture(scope="module")
def as_video(tmp_path_factory):
    """Ten frames at 2 a second, each a key frame: a video of what `ten` holds."""
    path = tmp_path_factory.mktemp("video") / "ten.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2, options={"g": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for index in range(10):
            pixels = np.full((32, 32, 3), index * 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("num_frames", [1, 3, 7, 12])
@pytest.mark.parametrize("clip", [(None, None), (1.0, None), (0.5, 3.0)])
@pytest.mark.parametrize("sampler", [Midpoints(), SegmentIndices(), Linspace(), AtRate(1.0), AtRate(0.5), KeyFrames()])
def test_samplers_choose_as_from_a_video(ten, as_video, sampler, clip, num_frames):
    """The oracle is the same rule on a video file of the same frames; its frames are 0.5 s apart."""
    start, end = clip
    expected = read_video(as_video, num_frames, start=start, end=end, sampler=sampler)
    found, _ = frame_folders.read_frames(MediumRef("video", ten, start, end, 2.0), num_frames, sampler)
    assert found.timestamps == pytest.approx(expected.timestamps, abs=1e-6)  # sums of floats
    assert order(found) == [round(time * 2) for time in expected.timestamps]
    assert found.duration == pytest.approx(expected.duration, abs=1e-6)


def test_a_random_sampler_draws_anew_each_epoch(ten):
    """One of each segment of two frames: 2 ** 5 draws, of which 20 epochs are not all the same."""
    sampler, drawn = RandomInSegment(seed=3), []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        drawn.append(order(frame_folders.read_frames(MediumRef("video", ten, fps=2.0), 5, sampler)[0]))
    assert all([index // 2 for index in indices] == [0, 1, 2, 3, 4] for indices in drawn)
    assert len({tuple(indices) for indices in drawn}) > 5
