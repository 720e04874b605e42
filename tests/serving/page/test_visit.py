"""A visitor's conversation, without a page."""

import gc
import itertools
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from ppl.datamodules.records import PLACEHOLDER
from ppl.datamodules.synthetic.world import random_scene, render
from ppl.datamodules.synthetic.writer import write_video
from ppl.datamodules.video_source import VideoError
from ppl.datamodules.watchdog import GuardedDecoder
from ppl.modules.generation import Generation
from ppl.serving.http.errors import ApiError
from ppl.serving.http.settings import Caps
from ppl.serving.line import FullError, Limits
from ppl.serving.page.exchanges import Way
from ppl.serving.page.visit import Visit
from ppl.serving.session import ChatSession

SQUARE, RING = "what colour is the square ?", "which way does the ring move ?"


def asked(visit, question, *ways):
    """The last of what a question gave, and the texts of the first answer on the way."""
    texts = []
    for exchange in visit.ask(question, ways or [Way()]):
        texts.append(exchange.replies[0].text)
    return exchange, texts


def test_answers_are_those_of_a_session_and_come_piece_by_piece(opened, model, processor, clip):
    session, told = ChatSession(model, processor, clip), Generation(max_new_tokens=12)
    for question in (SQUARE, RING):
        exchange, texts = asked(opened, question)
        assert exchange.replies[0].text == "".join(session.ask(question, told))
        assert len(set(texts)) > 2
        assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
        torch.testing.assert_close(exchange.relevance, session.relevance(question))
    assert [exchange.question for exchange in opened.exchanges] == [SQUARE, RING]
    assert not torch.equal(opened.exchanges[0].relevance, opened.exchanges[1].relevance)


def test_two_ways_answer_the_same_prompt(opened, engine, monkeypatch):
    prompts = []
    ask = engine.ask
    monkeypatch.setattr(engine, "ask", lambda question: prompts.append(question) or ask(question))
    first, _ = asked(opened, SQUARE, Way(), Way("average", 4))
    asked(opened, RING, Way("average"), Way())
    told = [reply.report for reply in first.replies]
    assert [report.num_visual_tokens for report in told] == [
        opened.num_tokens(Way()),
        opened.num_tokens(Way("average", 4)),
    ]
    assert told[1].num_visual_tokens <= 4 < told[0].num_visual_tokens
    assert {"decode", "queue", "encode", "pool", "prefill", "tokens"} <= told[0].milliseconds.keys()
    assert prompts[0].turns == prompts[1].turns
    assert prompts[2].turns == prompts[3].turns
    texts = [turn.text for turn in prompts[2].turns]
    assert texts == [f"{PLACEHOLDER}\n{SQUARE}", first.replies[0].text.strip(), RING]


def test_where_one_way_fails_the_other_answers(opened):
    exchange, _ = asked(opened, SQUARE, Way("nearest"), Way())
    assert "got pooler 'nearest', expected one of average" in exchange.replies[0].problem
    assert exchange.replies[1].text
    following, _ = asked(opened, RING)
    assert following.replies[0].text, "a question without an answer is no part of the conversation"


@pytest.mark.parametrize("question", ["", "  \n"])
def test_no_question_is_refused(opened, question):
    with pytest.raises(ValueError, match="got an empty question"):
        asked(opened, question)
    assert opened.exchanges == []


def test_no_clip_is_said(visit):
    with pytest.raises(ValueError, match="got no clip, expected one to ask about"):
        asked(visit, SQUARE)


def test_another_clip_begins_another_conversation(opened, clip, tmp_path, store):
    asked(opened, SQUARE)
    other = tmp_path / "other.mp4"
    write_video(other, render(random_scene(np.random.default_rng(1))))
    assert opened.open(other).name == "other.mp4"
    assert opened.exchanges == []
    assert store.num_bytes == other.stat().st_size, "the first clip is forgotten"
    opened.start_again()
    assert opened.clip.name == "other.mp4"


def test_what_is_no_clip_is_said_and_the_old_one_stays(opened, clip, tmp_path, store):
    bad = tmp_path / "holiday.mp4"
    bad.write_text("not a video")
    with pytest.raises(ApiError, match=r"got holiday\.mp4, which is no whole video") as caught:
        opened.open(bad)
    assert str(tmp_path) not in opened.explain(caught.value)
    assert opened.clip.name == "clip.mp4"
    assert store.num_bytes == clip.stat().st_size
    asked(opened, SQUARE)


def test_a_long_clip_is_refused(visit, tmp_path, store):
    long = tmp_path / "long.mp4"
    write_video(long, render(random_scene(np.random.default_rng(0), num_frames=24)))
    with pytest.raises(ApiError, match=r"got 6\.0 s of video, expected at most 5 s; cut a clip out of it"):
        visit.open(long)
    assert store.num_bytes == 0


def test_a_file_that_crashes_the_process_that_looks_at_it_is_told(opened, clip, store, processor, monkeypatch):
    def dies(path, look):
        raise VideoError(f"{path}: the decoding process died (signal SIGSEGV), expected frames; drop the record")

    guarded, plain = GuardedDecoder(), processor.decoder
    monkeypatch.setattr(guarded, "ask", dies)
    processor.decoder = guarded
    with pytest.raises(ApiError) as caught:
        opened.open(clip)
    processor.decoder = plain
    assert opened.explain(caught.value).startswith("got clip.mp4, which hung or crashed the process that looked into")
    assert store.num_bytes == clip.stat().st_size
    asked(opened, SQUARE)


def test_an_image_is_a_clip_of_one_frame(visit, tmp_path):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "square.png")
    assert visit.open(tmp_path / "square.png").medium.ref.kind == "image"
    exchange, _ = asked(visit, SQUARE)
    assert exchange.replies[0].text
    assert len(exchange.relevance) == len(visit.clip.medium.frames) == 1


def test_files_go_with_the_visit(engine, store, clip):
    visit = Visit(engine, store, Caps())
    visit.open(clip)
    assert store.num_bytes > 0
    del visit
    gc.collect()
    assert store.num_bytes == 0


def test_an_answer_is_stopped(engine, store, clip, monkeypatch):
    visit = Visit(engine, store, Caps())
    monkeypatch.setattr(visit, "_generation", Generation(max_new_tokens=450))
    visit.open(clip)
    for exchange in visit.ask(SQUARE, [Way()]):
        if exchange.replies[0].text:
            visit.stop()
    assert exchange.replies[0].report.finish == "cancelled"
    assert 0 < exchange.replies[0].report.num_tokens < 450
    assert engine.num_open == 0


def test_a_visitor_who_goes_away_frees_the_line(opened, engine):
    answers = opened.ask(SQUARE, [Way(), Way("average")])
    next(answers)
    answers.close()
    until = time.monotonic() + 60
    while engine.num_open and time.monotonic() < until:  # what the model was in the middle of ends first
        time.sleep(0.01)
    assert engine.num_open == 0


def test_a_model_without_an_aligner_says_so(processor, engine, store, clip, monkeypatch):
    monkeypatch.setattr(engine.model, "aligner", None)
    visit = Visit(engine, store, Caps(tokens=2))
    visit.open(clip)
    exchange, _ = asked(visit, SQUARE, Way("average"))
    assert exchange.relevance is None
    assert "got a model without an aligner" in exchange.problem
    assert exchange.replies[0].report is not None


@pytest.fixture
def busy(engine):
    """Keep the thread of the model busy until the end."""
    gate = threading.Event()
    done = engine.run(lambda _: gate.wait(60))
    yield
    gate.set()
    assert done.result(60)


def test_a_clip_that_takes_too_long_leaves_the_line_and_the_disk(engine, store, clip, busy):
    visit = Visit(engine, store, Caps(seconds=0.1))
    with pytest.raises(TimeoutError):
        visit.open(clip)
    assert engine.num_open == 1, "what keeps the model busy"
    assert store.num_bytes == 0


def test_what_a_full_line_refuses_was_not_asked(opened, engine, busy, monkeypatch):
    monkeypatch.setattr(engine._line, "limits", Limits(max_waiting=1))
    with pytest.raises(FullError):
        asked(opened, SQUARE)
    assert opened.exchanges == []
