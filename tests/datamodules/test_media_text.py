from __future__ import annotations

import pytest

from ppl.batches import MediaText
from ppl.datamodules.media_text import insert_media, render_medium
from ppl.datamodules.templates import Segment

INTERNVL = MediaText("<img>", "</img>", "Frame{number}: ", "\n")
NOTED = MediaText(video_note="\n{num_frames} frames of {duration} seconds at {times}.")


def test_without_fixed_text_there_are_placeholders() -> None:
    assert render_medium(MediaText(), "<image>", 1, is_video=True) == "<image>"
    assert render_medium(MediaText(), "<image>", 1, is_video=False) == "<image>"


def test_internvl_s_frames_and_images() -> None:
    """As ``replace_video_token`` and ``replace_image_token`` of transformers' InternVL processor write them."""
    frames = "Frame1: <img><IMG_CONTEXT></img>\nFrame2: <img><IMG_CONTEXT></img>"
    assert render_medium(INTERNVL, "<IMG_CONTEXT>", 2, is_video=True) == frames
    assert render_medium(INTERNVL, "<IMG_CONTEXT>", 1, is_video=False) == "<img><IMG_CONTEXT></img>"


def test_a_note_follows_videos_only() -> None:
    times = (0.0, 1.256, 10.0)
    text = render_medium(NOTED, "<image>", 1, times, 12.0, is_video=True)
    assert text == "<image>\n3 frames of 12.00 seconds at 0.00s,1.26s,10.00s."
    assert render_medium(NOTED, "<image>", 1, is_video=False) == "<image>"


def test_a_note_needs_times() -> None:
    with pytest.raises(ValueError, match=r"got a video without the times of its frames.*set time_instruction: false"):
        render_medium(NOTED, "<image>", 1, is_video=True)


def test_media_are_inserted_in_order() -> None:
    pieces = [
        Segment("a <media> b <media>", trains=False),
        Segment("c", trains=True),
        Segment("<media>d", trains=False),
    ]
    assert insert_media(pieces, ["1", "{2}", "3"]) == [
        Segment("a 1 b {2}", trains=False),
        Segment("c", trains=True),
        Segment("3d", trains=False),
    ]
