"""Media are opened once each, and what hangs harms no other."""

from __future__ import annotations

import time

import pytest

from ppl.datamodules.annotations import iter_records
from ppl.datamodules.decoders.pyav import PyAVDecoder
from ppl.datamodules.watchdog import GuardedDecoder
from ppl.inspection import media as looked
from ppl.inspection.media import Opener, distinct_media, find_broken, open_medium, told
from ppl.inspection.reading import Contents
from ppl.inspection.selection import Part, Source
from tests.inspection.conftest import llava

SLEEPER = """
import time
from ppl.datamodules.decoders.base import VideoDecoder
from ppl.datamodules.decoders.pyav import PyAVDecoder

class Sleeper(VideoDecoder):
    def read(self, path, sampler, num_frames, start, end):
        if path.name == "b.mp4":
            time.sleep(100)
        return PyAVDecoder().read(path, sampler, num_frames, start, end)
"""


@pytest.fixture
def contents(write, media):
    def contents(items):
        return Contents(Part("", Source("")), list(iter_records(write(items), str(media))), [])

    return contents


def test_a_decoder_that_hangs_is_stopped(contents, media, tmp_path, monkeypatch):
    """The hung file is broken, the one after it is not; the child's start is not counted, so 5 s are enough."""
    (tmp_path / "sleeping_decoder.py").write_text(SLEEPER)
    monkeypatch.syspath_prepend(tmp_path)
    from sleeping_decoder import Sleeper  # pyright: ignore[reportMissingImports]

    records = contents([llava(video="b.mp4"), llava(video="a.mp4")])
    opener = Opener(GuardedDecoder(Sleeper(), timeout_s=5.0), 1)
    [fault] = find_broken([records], opener, lambda done, total: None)
    assert fault.medium == str(media / "b.mp4")
    assert "decoding was stopped at timeout_s=5 s" in fault.reason


def test_each_medium_is_opened_once_and_each_record_told(contents, media, monkeypatch):
    opened, advanced = [], []
    monkeypatch.setattr(looked, "open_medium", lambda ref, decoder: opened.append(ref) or open_medium(ref, decoder))
    monkeypatch.setattr(Opener, "_decoder", lambda self: PyAVDecoder())
    items = [llava(video="cut.mp4"), llava(video="cut.mp4", id="again"), llava(video="cut.mp4", end=0.5)]
    items += [llava("<image> <image> ?", image=["gone.png", "gone.png"]), llava(video=[["gone.png", "frames/1.png"]])]
    records = contents(items)
    faults = find_broken([records], Opener(None, 2), lambda *progress: advanced.append(progress))
    assert [(ref.path, ref.end) for ref in sorted(opened, key=str)] == [
        (str(media / "cut.mp4"), 0.5),
        (str(media / "cut.mp4"), None),
    ]
    assert advanced == [(1, 2), (2, 2)]
    assert [(fault.origin.rpartition(":")[2], fault.id, fault.medium) for fault in faults] == [
        ("1", "data.jsonl:1", str(media / "cut.mp4")),
        ("2", "again", str(media / "cut.mp4")),
        ("4", "data.jsonl:4", str(media / "gone.png")),
        ("5", "data.jsonl:5", str(media / "gone.png")),
    ]


def test_answers_keep_the_order_of_media(contents, monkeypatch):
    monkeypatch.setattr(Opener, "_decoder", lambda self: PyAVDecoder())
    monkeypatch.setattr(looked, "_AT_ONCE", 2)
    media = distinct_media(contents([llava(video="a.mp4", end=0.1 * n) for n in range(1, 8)]).records)

    def look(ref, decoder):
        time.sleep(0.02 / ref.end)
        if ref.end > 0.65:
            raise RuntimeError("late")
        return ref.end

    *ends, error = Opener(None, 3).each(look, media)
    assert ends == [ref.end for ref in media[:-1]]
    assert told(error) == "RuntimeError: late"
