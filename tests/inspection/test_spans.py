"""Lengths of videos, against what was written into them."""

from __future__ import annotations

import pytest

from ppl.datamodules.decoders.pyav import PyAVDecoder
from ppl.datamodules.records import MediumRef
from ppl.inspection.spans import Span, span_of


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("a.mp4", {}, Span(20, 2.0)),
        ("b.mp4", {}, Span(15, 3.0)),
        ("b.mp4", {"start": 1.0}, Span(10, 2.0)),
        ("b.mp4", {"start": 1.0, "end": 1.5}, Span(3, 0.5)),  # at 1.0, 1.2 and 1.4 s
        ("b.mp4", {"end": 99.0}, Span(15, 3.0)),
        ("frames", {}, Span(6, None)),
        ("frames", {"fps": 2.0}, Span(6, 3.0)),
        ("frames", {"fps": 2.0, "end": 1.0}, Span(2, 1.0)),
    ],
)
def test_spans_are_what_was_written(media, name, more, expected):
    found = span_of(MediumRef("video", str(media / name), **more), PyAVDecoder())
    assert found.frames == expected.frames
    assert found.seconds == pytest.approx(expected.seconds, abs=1e-6)  # sums of floats


def test_what_cannot_be_read_raises(media):
    with pytest.raises(ValueError, match="FFmpeg cannot open it"):
        span_of(MediumRef("video", str(media / "zero.mp4")), PyAVDecoder())
