"""Files to keep of a conversation."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from ppl.serving.overlays import heatmap_strip
from ppl.serving.page.exchanges import Way
from ppl.serving.page.transcript import as_heatmap, as_json, as_markdown


@pytest.fixture
def held(opened):
    """A conversation of two questions, the second under two ways to pool."""
    for question, ways in (("what colour is the square ?", [Way()]), ("which way ?", [Way(), Way("average", 4)])):
        for _ in opened.ask(question, ways):
            pass
    return opened


def test_json_says_all(held):
    told = json.loads(as_json(held, "tiny"))
    assert (told["model"], told["clip"], told["kind"]) == ("tiny", "clip.mp4", "video")
    assert len(told["frame_times"]) == 4
    assert [exchange["question"] for exchange in told["exchanges"]] == ["what colour is the square ?", "which way ?"]
    one, other = told["exchanges"][1]["answers"]
    replies = held.exchanges[1].replies
    assert [one["answer"], other["answer"]] == [reply.text.strip() for reply in replies]
    assert (other["pooler"], other["budget"], other["problem"]) == ("average", 4, None)
    assert other["visual_tokens"] == replies[1].report.num_visual_tokens
    assert one["milliseconds"] == replies[0].report.milliseconds


def test_markdown_reads_as_the_conversation_went(held):
    lines = as_markdown(held, "tiny").decode().splitlines()
    assert lines[0] == "# clip.mp4"
    assert [line for line in lines if line.startswith("## ")] == [
        "## 1. what colour is the square ?",
        "## 2. which way ?",
    ]
    answers = [line for line in lines if line.startswith("**")]
    assert answers[0] == f"**the model's own pooler:** {held.exchanges[0].replies[0].text.strip()}"
    assert answers[2].startswith("**average, at most 4 tokens:** ")


def test_the_heat_map_is_that_of_the_question(held):
    exchange = held.exchanges[0]
    picture = Image.open(io.BytesIO(as_heatmap(held, exchange)))
    assert picture.format == "PNG"
    expected = heatmap_strip(held.clip.medium.frames, exchange.relevance, exchange.question)
    assert np.array_equal(np.asarray(picture), np.asarray(expected))
    assert as_heatmap(held, exchange) != as_heatmap(held, held.exchanges[1])


def test_without_a_clip_or_a_question_there_is_nothing_to_keep(visit, opened):
    with pytest.raises(ValueError, match="got no question to draw the relevance to"):
        as_heatmap(opened, None)
    visit.clip = None
    for write in (as_json, as_markdown):
        with pytest.raises(ValueError, match="got no clip"):
            write(visit, "tiny")
