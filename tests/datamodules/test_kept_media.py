from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ppl.batches import KeptFeatures, MediaText, MediumInfo
from ppl.datamodules.kept_media import Note, read_note, write_note
from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record, Turn

VIDEO = MediumInfo(0, "video", 2, (32, 48), "of a video")


def kept_in(folder, *, there=True):
    return KeptFeatures(str(folder), lambda key: there)


def test_notes_come_back_where_features_are(tmp_path):
    times = (1 / 3, 0.1 + 0.2)
    write_note(kept_in(tmp_path), VIDEO, times, 2.0)
    assert read_note(kept_in(tmp_path), "of a video") == Note(2, (32, 48), times, 2.0)
    assert read_note(kept_in(tmp_path), "of another") is None
    assert read_note(kept_in(tmp_path, there=False), "of a video") is None


def test_without_a_key_nothing_is_noted(tmp_path):
    write_note(kept_in(tmp_path), VIDEO._replace(key=""), (), 0.0)
    assert read_note(kept_in(tmp_path), "") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "[]", "{", '{"key": "of another"}', '{"key": "of a video", "times": []}'])
def test_a_broken_note_is_none_and_is_written_again(tmp_path, text):
    write_note(kept_in(tmp_path), VIDEO, (), 2.0)
    [file] = tmp_path.rglob("*.json")
    file.write_text(text)
    assert read_note(kept_in(tmp_path), "of a video") is None
    write_note(kept_in(tmp_path), VIDEO, (), 2.0)
    assert read_note(kept_in(tmp_path), "of a video") == Note(2, (32, 48), (), 2.0)


def test_what_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match=r"cannot be written .*; its medium is decoded in every epoch"):
        write_note(kept_in(tmp_path / "file"), VIDEO, (), 2.0)


@pytest.fixture
def record(media_folder):
    media = [
        MediumRef("video", str(media_folder / "clip.mp4"), 0.5),
        MediumRef("image", str(media_folder / "wide.png")),
    ]
    return Record("r", [Turn("user", f"{PLACEHOLDER}{PLACEHOLDER} what ?"), Turn("assistant", "red")], media)


def test_samples_are_the_same_but_for_pixels(input_spec, record, tmp_path, monkeypatch):
    """Also the text that tells the times of a video's frames, and the number of an image's tiles."""
    spec = replace(input_spec, media_text=MediaText(video_note="{duration} {times}"))
    processor = Processor(spec, num_frames=3)
    whole = processor.encode(record)
    processor.kept = kept_in(tmp_path)
    first = processor.encode(record)
    assert torch.equal(first.frames, whole.frames)
    monkeypatch.setattr("ppl.datamodules.processing.read_medium", None)
    undecoded = processor.encode(record)
    assert undecoded.frames.shape == (0, *whole.frames.shape[1:])
    assert undecoded.media == [info._replace(has_pixels=False) for info in whole.media]
    assert [info.num_pixel_frames for info in undecoded.media] == [0, 0]
    assert torch.equal(undecoded.input_ids, whole.input_ids)
    assert torch.equal(undecoded.labels, whole.labels)
    assert undecoded[4:] == whole[4:]


def test_media_without_features_are_decoded(input_spec, record, tmp_path):
    processor = Processor(input_spec, num_frames=3)
    whole = processor.encode(record)
    processor.kept = KeptFeatures(str(tmp_path), lambda key: "|video|" in key)
    processor.encode(record)
    mixed = processor.encode(record)
    assert [info.has_pixels for info in mixed.media] == [False, True]
    assert torch.equal(mixed.frames, whole.frames[3:])
