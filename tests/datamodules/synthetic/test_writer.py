import json

import av
import numpy as np
import pytest

from ppl.datamodules.annotations import read_records
from ppl.datamodules.images import resize_frames
from ppl.datamodules.synthetic.instruction import SyntheticExample
from ppl.datamodules.synthetic.questions import QUESTION_TYPES, ask
from ppl.datamodules.synthetic.world import random_scene, render
from ppl.datamodules.synthetic.writer import write_examples, write_video
from ppl.datamodules.video_io import probe_video, read_video


def scene(seed=0, **options):
    return random_scene(np.random.default_rng(seed), **options)


@pytest.mark.parametrize("num_frames", [1, 8])
def test_a_written_video_reads_back_as_rendered(tmp_path, num_frames):
    frames = render(scene(num_frames=num_frames))
    write_video(tmp_path / "clip.mp4", frames)
    read = resize_frames(read_video(tmp_path / "clip.mp4", num_frames).frames, 48).numpy().astype(int)
    errors = np.abs(read - frames).mean(axis=(1, 2, 3))
    assert errors.max() < 6, "of 255: the noise, up to 10, is partly smoothed away"
    bias = (read - frames).mean(axis=(0, 2, 3))
    assert np.abs(bias).max() < 1.5, "colours are read by another matrix or range than they were written by"
    if num_frames > 1:  # and each frame is itself, not its neighbour
        shifted = np.abs(read[1:] - frames[:-1]).mean(axis=(1, 2, 3))
        assert (shifted > 1.5 * errors[1:]).all()


def test_it_is_h264_of_the_asked_rate(tmp_path):
    write_video(tmp_path / "clip.mp4", render(scene()), fps=5, magnify=2)
    info = probe_video(tmp_path / "clip.mp4")
    assert (info.codec, info.height, info.width, info.rotation) == ("h264", 96, 96, 0)
    assert info.fps == pytest.approx(5)
    assert info.duration == pytest.approx(8 / 5)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8


def test_examples_are_files_and_records_of_them(tmp_path):
    rng = np.random.default_rng(1)
    scenes = [scene(seed) for seed in range(3)]
    mix = dict.fromkeys(QUESTION_TYPES, 1.0)
    examples = [SyntheticExample(each, ask(each, mix, rng), i) for i, each in enumerate(scenes)]
    annotations = write_examples(tmp_path / "new", examples)
    records = read_records(annotations)
    assert [record.turns[-1].text for record in records] == [example.question.answer for example in examples]
    assert [record.questions for record in records] == [[example.question.text] for example in examples]
    assert [record.category for record in records] == [example.question.type for example in examples]
    assert [record.media[0].path for record in records] == [str(tmp_path / "new" / f"{i:05d}.mp4") for i in range(3)]
    for record, each in zip(records, scenes, strict=True):
        read = resize_frames(read_video(record.media[0].path, 8).frames, 48).numpy().astype(int)
        assert np.abs(read - render(each)).mean() < 6
    assert all(set(json.loads(line)) == {"id", "messages", "category"} for line in annotations.read_text().splitlines())
