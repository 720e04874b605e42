"""What is shown of a visit, read back from the HTML."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from ppl.serving.answers import Report
from ppl.serving.page.exchanges import Exchange, Reply, Way
from ppl.serving.page.rendering import as_data_url, conversation_html, frames_html, jpeg_url

HOSTILE = "<script>alert('x')</script> \"&"


class Tags(HTMLParser):
    """Collects tags and their attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def __getitem__(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def pixels(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).astype(int)


def exchange(relevance=None, **told):
    return Exchange("what moves ?", [Reply(Way(), **told)], relevance)


def test_before_a_clip_there_is_a_hint():
    assert "frames that the model looks at" in frames_html(None, None)


def test_frames_are_the_sampled_ones(opened):
    images = Tags(frames_html(opened.clip, None))["img"]
    frames = opened.clip.medium.frames.permute(0, 2, 3, 1).numpy()
    assert len(images) == len(frames) == 4
    for shown, frame in zip(images, frames, strict=True):
        assert np.abs(pixels(shown["src"]) - frame).mean() < 6, "but for what JPEG loses"
    times = [f"{seconds:.1f} s" for seconds in opened.clip.medium.decoded.times]
    assert [shown["alt"] for shown in images] == [f"{number} · {told}" for number, told in enumerate(times, 1)]


def test_relevance_brightens_its_place_and_is_counted(opened):
    relevance = torch.full((4, 6, 6), 1e-6)
    relevance[1, :3, :3] = 1.0
    html = frames_html(opened.clip, exchange(relevance))
    shown = [pixels(image["src"]) for image in Tags(html)["img"]]
    plain = opened.clip.medium.frames.permute(0, 2, 3, 1).numpy().astype(int)
    half = plain.shape[1] // 2
    gain = shown[1].mean(axis=2) - 0.6 * plain[1].mean(axis=2)
    assert gain[: half - 40, : half - 40].mean() > 40
    assert abs(gain[half + 40 :, half + 40 :].mean()) < 6, "darkened only"
    assert re.findall(r"(\d+) %</figcaption>", html) == ["0", "100", "0", "0"]


def test_why_there_is_no_relevance_is_said(opened):
    told = exchange()
    told.problem = f"no aligner {HOSTILE}"
    html = frames_html(opened.clip, told)
    assert "No relevance: no aligner &lt;script&gt;" in html
    assert not Tags(html)["script"]


def test_an_answer_is_shown_with_its_numbers():
    stages = {"decode": 1.0, "queue": 2.0, "encode": 30.0, "pool": 4.0, "prefill": 5.0, "tokens": 58.0}
    told = exchange(text="the ring", report=Report("stop", 40, 16, 2, stages))
    html = conversation_html([told])
    assert "16 visual tokens, 100 ms" in html
    rows = re.findall(r"<th scope='row'>(.*?)</th><td>(.*?)</td>", html)
    assert rows[:2] == [("visual tokens", "16"), ("answer tokens", "2")]
    assert ("vision tower", "30.0 ms") in rows
    assert rows[-1] == ("in all", "100.0 ms")


@pytest.mark.parametrize(
    ("finish", "words"), [("length", "cut off"), ("cancelled", "stopped"), ("late", "out of time"), ("stop", None)]
)
def test_how_an_answer_ended_is_said_unless_it_is_whole(finish, words):
    html = conversation_html([exchange(text="red", report=Report(finish))])
    assert ("ending" in html) == (words is not None)
    assert words is None or words in html


def test_an_answer_on_its_way_is_busy():
    assert 'aria-busy="true">…<' in conversation_html([exchange()])
    assert 'aria-busy="false">(no words)<' in conversation_html([exchange(report=Report("stop"))])


def test_two_answers_are_beside_each_other_and_only_the_newest_open():
    two = Exchange("q ?", [Reply(Way(), "a", Report("stop")), Reply(Way("average", 9), "b", Report("stop"))])
    html = conversation_html([exchange(text="old", report=Report("stop")), two])
    tags = Tags(html)
    assert [told["class"] for told in tags["div"]] == ["replies replies-1", "replies replies-2"]
    assert ["open" in told for told in tags["details"]] == [False, True, True]
    assert "average, at most 9 tokens" in html


def test_what_anybody_wrote_is_text(opened):
    told = Exchange(HOSTILE, [Reply(Way(), HOSTILE), Reply(Way(), problem=HOSTILE)])
    html = conversation_html([told])
    assert not Tags(html)["script"]
    assert html.count("&lt;script&gt;") == 3


def test_a_large_picture_is_shown_smaller():
    assert pixels(jpeg_url(Image.new("RGB", (1920, 1080)))).shape == (240, 427, 3)
    assert as_data_url(b"ab", "text/plain") == "data:text/plain;base64,YWI="
