"""Animations are read back by the libraries' own readers."""

import av
import numpy as np
import pytest
from PIL import Image, ImageChops, ImageStat

from ppl.serving.animation import write_gif, write_mp4

SIZE = (64, 48)


def pictures(count):
    """A red square that moves right over blue."""
    made = []
    for index in range(count):
        picture = Image.new("RGB", SIZE, "navy")
        picture.paste((220, 30, 30), (8 * index, 16, 8 * index + 16, 32))
        made.append(picture)
    return made


def distance(one, other):
    """Mean absolute difference of all channels."""
    return np.mean(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other)).mean)


def test_a_gif_holds_every_picture_and_repeats_for_ever(tmp_path):
    path = tmp_path / "moving"
    write_gif(path, iter(pictures(5)), 4.0)
    with Image.open(path) as gif:
        assert (gif.format, gif.n_frames, gif.size, gif.info["loop"]) == ("GIF", 5, SIZE, 0)
        for index, picture in enumerate(pictures(5)):
            gif.seek(index)
            assert gif.info["duration"] == 250
            assert distance(gif, picture) < 1  # two colours: the palette holds them


def test_a_single_picture_is_an_animation_too(tmp_path):
    write_gif(tmp_path / "still.gif", pictures(1), 2.0)
    write_mp4(tmp_path / "still.mp4", pictures(1), 2.0)
    with Image.open(tmp_path / "still.gif") as gif:
        assert (gif.format, gif.n_frames) == ("GIF", 1)
    with av.open(tmp_path / "still.mp4") as container:
        assert len(list(container.decode(video=0))) == 1


def test_a_gif_cannot_be_arbitrarily_fast(tmp_path):
    with pytest.raises(ValueError, match="got 60 pictures a second for a GIF, expected at most 50; lower --fps or"):
        write_gif(tmp_path / "fast.gif", pictures(2), 60.0)


@pytest.mark.parametrize("fps", [0.5, 2.0, 29.97])
def test_an_mp4_is_h264_with_every_picture_at_its_time(tmp_path, fps):
    path = tmp_path / "moving"
    write_mp4(path, iter(pictures(5)), fps)
    with av.open(path) as container:
        (stream,) = container.streams
        assert "mp4" in container.format.name
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        shown = [(frame.time, frame.to_image()) for frame in container.decode(stream)]
    assert [time for time, _ in shown] == pytest.approx([index / fps for index in range(5)], abs=1e-3)
    for (_, decoded), picture in zip(shown, pictures(5), strict=True):
        assert decoded.size == SIZE
        assert distance(decoded, picture) < 6  # colours at half resolution; neighbours differ by over 10
    assert distance(shown[0][1], pictures(5)[1]) > 10
