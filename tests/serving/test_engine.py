"""Many who ask at once, against a chat session that answers each question alone."""

import gc
import threading
import time
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Turn
from ppl.modules.feature_cache import Caching, FeatureCache
from ppl.modules.generation import Generation
from ppl.modules.poolers.adaptive_average import AdaptiveAveragePooler
from ppl.modules.poolers.average import AveragePooler
from ppl.serving.answering import Question
from ppl.serving.encoded_media import Keeping, medium_at
from ppl.serving.engine import Engine
from ppl.serving.line import FullError, Limits
from ppl.serving.session import ChatSession
from ppl.serving.variants import with_budget
from tests.modules.test_generation import backbone_model
from tests.modules.tiny import guided_model, inputs_seen
from tests.parity.native import template_of
from tests.serving.small_gpu import short_of_memory

TEXTS = ("what colour is the square ?", "which way does the ring move ?", "is there a red ring ? say why", "find")
LONG = 10_000.0
"""Milliseconds to wait for a full batch: far longer than a test takes."""


def question(media, text=TEXTS[0], tokens=8, **options):
    generation = options.pop("generation", Generation())
    shown = "".join(f"{PLACEHOLDER}\n" for _ in media)
    generation = replace(generation, max_new_tokens=tokens)
    return Question((Turn("user", shown + text),), tuple(media), generation, **options)


def alone(model, processor, asked, poolers=None):
    """What a session of its own answers."""
    session = ChatSession(model, processor, policy=asked.policy)
    pooler = model.pooler if asked.pooler is None else poolers[asked.pooler]
    if asked.budget is not None:
        pooler = with_budget(pooler, asked.budget)
    if pooler is not model.pooler:
        session.switch(pooler)
    for ref in asked.media:
        session.add(ref)
    return "".join(session.ask(asked.turns[-1].text.replace(f"{PLACEHOLDER}\n", ""), asked.generation))


@contextmanager
def opened(model, processor, **options):
    """An engine whose batches are full or wait long; its threads are gone afterwards."""
    limits = options.pop("limits", Limits(max_rows=1))
    before = set(threading.enumerate())
    engine = Engine(model, processor, limits=limits, **options)
    try:
        yield engine
    finally:
        engine.close(0.0)
        assert set(threading.enumerate()) <= before
        assert engine.num_open == 0


@contextmanager
def held(engine):
    """Keep the thread of the model busy."""
    gate, begun = threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        assert gate.wait(60)

    done = engine.run(wait)
    assert begun.wait(60)
    try:
        yield
    finally:
        gate.set()
        done.result(60)


@pytest.fixture(scope="module")
def model():
    """One for all; what a test changes of it is changed back."""
    torch.manual_seed(0)
    return guided_model()


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.effect_noise((90, 60), 80).convert("RGB").save(path)
    return MediumRef("image", str(path))


@pytest.fixture
def ref(clip):
    return medium_at(clip)


def backbone(name):
    if name == "tiny_llava_next":
        model = guided_model()
        return model, Processor(model.input_spec, num_frames=4)
    model = backbone_model(name)
    return model, Processor(model.input_spec, template_of(model), num_frames=2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tiny_llava_next", {}),
        ("tiny_internvl", {"repetition_penalty": 1.3}),
        ("tiny_llava_onevision", {}),
    ],
)
def test_each_row_of_a_batch_is_answered_as_it_is_alone(name, options, ref, picture):
    """Rows differ in length, media, poolers and ends.

    Tokens are equal although logits are so to rounding only: other lengths sum in another order.
    """
    model, processor = backbone(name)
    poolers = {"average": AveragePooler((2, 3, 3), None, (1, 3, 3))}
    generation = Generation(**options)
    asked = [
        question([ref], TEXTS[0], 3, generation=generation),
        question([ref], TEXTS[1], 24, generation=generation),
        question([ref], TEXTS[2], 12, generation=generation, pooler="average"),
        question([ref], TEXTS[2], 12, generation=generation, pooler="average", budget=3),
        question([picture], TEXTS[0], 12, generation=generation),
        question([picture, ref, picture], TEXTS[3], 12, generation=generation),
        question([], TEXTS[1], 12, generation=generation),
    ]
    expected = [alone(model, processor, one, poolers) for one in asked]
    said = alone(model, processor, question([ref], tokens=24, generation=generation)).split()[1]
    asked.append(question([ref], tokens=24, generation=replace(generation, stop_strings=(said,))))
    expected.append(alone(model, processor, asked[-1]))
    assert len(set(expected)) > len(asked) - 2, "answers hardly differ: the comparison proves nothing"
    with opened(model, processor, poolers=poolers, limits=Limits(max_rows=len(asked), wait_ms=LONG)) as engine:
        answers = [engine.ask(one) for one in asked]
        assert ["".join(answer) for answer in answers] == expected
    reports = [answer.report.result() for answer in answers]
    assert sum(report.num_rows > 2 for report in reports) > 4, "hardly any were answered together"
    assert [report.num_visual_tokens == 0 for report in reports] == [not one.media for one in asked]
    assert len({report.num_visual_tokens for report in reports[1:4]}) == 3


def test_a_conversation_goes_on_as_a_session_does(model, processor, ref):
    session = ChatSession(model, processor)
    session.add(ref)
    generation = Generation(max_new_tokens=12)
    first, second = ("".join(session.ask(text, generation)) for text in TEXTS[:2])
    turns = question([ref], TEXTS[0]).turns
    with opened(model, processor) as engine:
        assert "".join(engine.ask(Question(turns, (ref,), generation))) == first
        turns = (*turns, Turn("assistant", first.strip()), Turn("user", TEXTS[1]))
        again = engine.ask(Question(turns, (ref,), generation))
        assert "".join(again) == second
    assert again.report.result().num_found == 1


@pytest.mark.parametrize("policy", ["per-turn", "first-turn", "union"])
def test_the_policy_says_which_questions_guide_pooling(model, processor, ref, policy):
    turns = (*question([ref], TEXTS[0]).turns, Turn("assistant", "red"), Turn("user", TEXTS[1]))
    guide = {"per-turn": TEXTS[1], "first-turn": TEXTS[0], "union": f"{TEXTS[0]} {TEXTS[1]}"}[policy]
    with opened(model, processor) as engine, inputs_seen(model.aligner.text_tower) as seen:
        list(engine.ask(Question(turns, (ref,), Generation(max_new_tokens=1), policy)))
    assert [ids.tolist() for ids in seen] == [model.aligner.tokenize([guide]).tolist()]


def test_many_threads_ask_about_one_video_which_is_decoded_and_encoded_once(model, processor, ref, monkeypatch):
    asked = [question([ref], TEXTS[number % 4], 1 + number % 5) for number in range(32)]
    expected = [alone(model, processor, one) for one in asked[:20]]  # 4 texts, 5 lengths
    read, times = processor.read, []

    def count(ref):
        times.append(ref)
        return read(ref)

    monkeypatch.setattr(processor, "read", count)
    with (
        opened(model, processor, limits=Limits(max_rows=8, wait_ms=20.0, num_readers=4)) as engine,
        inputs_seen(model.backbone.vision_tower) as seen,
        ThreadPoolExecutor(32) as pool,
    ):
        said = list(pool.map(lambda one: "".join(engine.ask(one)), asked))
        assert engine.media.num_found == 31
    assert said == [expected[number % 20] for number in range(32)]
    assert len(times) == len(seen) == 1


def test_questions_that_sample_otherwise_are_answered_apart_and_a_seed_alone(model, processor, ref):
    seeded = Generation(temperature=1.5, seed=3)
    settings = [Generation(), seeded, seeded, Generation(temperature=1.5), Generation(temperature=1.5)]
    asked = [question([ref], generation=generation) for generation in settings]
    with opened(model, processor, limits=Limits(max_rows=5, wait_ms=50.0)) as engine:
        with held(engine):
            answers = [engine.ask(one) for one in asked]
            until = time.monotonic() + 60
            while len(engine._line._ready) < len(asked) and time.monotonic() < until:  # all decoded
                time.sleep(0.01)
        said = ["".join(answer) for answer in answers]
    assert [answer.report.result().num_rows for answer in answers] == [1, 1, 1, 2, 2]
    assert said[1] == said[2] == alone(model, processor, asked[1])
    assert said[0] == alone(model, processor, asked[0]) != said[1]


def test_sampling_from_one_token_is_greedy_in_a_batch_too(model, processor, ref):
    sampled = Generation(temperature=2.0, top_k=1)
    with opened(model, processor, limits=Limits(max_rows=3, wait_ms=LONG)) as engine:
        answers = [engine.ask(question([ref], text, generation=sampled)) for text in TEXTS[:3]]
        assert ["".join(a) for a in answers] == [alone(model, processor, question([ref], t)) for t in TEXTS[:3]]
    assert answers[0].report.result().num_rows == 3


def test_a_row_that_meets_the_end_of_the_context_does_not_shorten_the_others(model, processor, ref, monkeypatch):
    """A question's own positions count, not those that the longest prompt pads it to."""
    asked = [question([ref], " ".join([TEXTS[1]] * 4), 40), question([], "find", 40), question([ref], tokens=2)]
    session = ChatSession(model, processor)
    session.add(ref)
    prompt = session._embed(list(asked[0].turns)).shape[1]
    monkeypatch.setattr(model.backbone.hf.config.text_config, "max_position_embeddings", prompt + 5)
    with pytest.warns(UserWarning, match="answers end after their first 5 tokens"):
        expected = [alone(model, processor, one) for one in asked]
    with opened(model, processor, limits=Limits(max_rows=3, wait_ms=LONG)) as engine:
        answers = [engine.ask(one) for one in asked]
        assert ["".join(answer) for answer in answers] == expected
    reports = [answer.report.result() for answer in answers]
    assert [report.num_tokens for report in reports] == [5, min(40, reports[1].num_tokens), 2]
    assert reports[1].num_tokens > 5
    assert {report.finish for report in reports} == {"length"}


def test_what_one_question_does_wrong_is_its_own(model, processor, ref, tmp_path):
    good = question([ref])
    wrong = {
        "no such video file": question([MediumRef("video", str(tmp_path / "none.mp4"))]),
        "shorten the prompt": question([ref], "find " * 3000),
        "expected at most max_length": question([], "find " * 9000),
        "placeholder": Question((Turn("user", "why ?"),), (ref,)),
        "one or more for each": question([MediumRef("image", str(tmp_path / "p.png"))], budget=1),
    }
    Image.new("RGB", (200, 100)).save(tmp_path / "p.png")
    with opened(model, processor, limits=Limits(max_rows=4, wait_ms=100.0)) as engine:
        answers = [engine.ask(good), *map(engine.ask, wrong.values())]
        for message, answer in zip(wrong, answers[1:], strict=True):
            with pytest.raises((ValueError, FileNotFoundError), match=message):
                list(answer)
        assert "".join(answers[0]) == alone(model, processor, good)


def failing(model, monkeypatch, error, fails):
    """Let the language model fail where ``fails`` says so of a batch's rows; the rows it met."""
    generate, rows = model.generate, []

    def sometimes(embeds, *args, **options):
        rows.append(len(embeds))
        if fails(rows):
            raise error
        return generate(embeds, *args, **options)

    monkeypatch.setattr(model, "generate", sometimes)
    return rows


def test_a_batch_without_enough_memory_begins_again_in_halves(model, processor, ref, monkeypatch):
    asked = [question([ref], text) for text in TEXTS]
    expected = [alone(model, processor, one) for one in asked]
    rows = failing(model, monkeypatch, torch.OutOfMemoryError("no room"), lambda rows: rows[-1] > 1)
    with opened(model, processor, limits=Limits(max_rows=4, wait_ms=LONG)) as engine:
        answers = [engine.ask(one) for one in asked]
        assert ["".join(answer) for answer in answers] == expected
    assert rows == [4, 2, 1, 1, 1, 1]


@pytest.mark.parametrize("part", ["vision_tower", "language_model"])
def test_too_little_memory_is_the_asker_s_own_error_and_the_engine_goes_on(model, processor, ref, part):
    expected = alone(model, processor, question([ref]))
    short_of_memory(getattr(model.backbone, part), at=0)
    with opened(model, processor) as engine:
        with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
            list(engine.ask(question([ref])))
        assert engine.num_open == 0
        assert "".join(engine.ask(question([ref]))) == expected


def test_an_error_of_the_model_is_that_of_all_it_answered_and_of_no_others(model, processor, ref, monkeypatch):
    expected = alone(model, processor, question([ref]))
    failing(model, monkeypatch, RuntimeError("no luck"), lambda rows: len(rows) == 1)
    with opened(model, processor, limits=Limits(max_rows=2, wait_ms=LONG)) as engine:
        for answer in [engine.ask(question([ref])) for _ in range(2)]:
            with pytest.raises(RuntimeError, match="no luck"):
                list(answer)
        answers = [engine.ask(question([ref])) for _ in range(2)]
        assert ["".join(answer) for answer in answers] == [expected] * 2


def test_an_answer_that_is_closed_frees_the_model_within_a_step(model, processor, ref):
    with opened(model, processor) as engine, inputs_seen(model.backbone.hf.lm_head) as steps:
        answer = engine.ask(question([ref], tokens=500))
        heard = iter(answer)
        next(heard)
        heard.close()
        assert answer.report.result(1).finish == "cancelled"
        assert engine.num_open == 0
        done = answer.report.result().num_tokens
        engine.run(lambda _: None).result(60)
        assert len(steps) <= done + 3 < 450


def test_a_row_that_is_cancelled_leaves_the_others_as_they_are(model, processor, ref):
    asked = [question([ref], TEXTS[0], 450), question([ref], TEXTS[1], 30)]
    with opened(model, processor, limits=Limits(max_rows=2, wait_ms=LONG)) as engine:
        dropped, kept = [engine.ask(one) for one in asked]
        next(iter(dropped))  # and forgotten
        assert "".join(kept) == alone(model, processor, asked[1])
    assert dropped.report.result().finish == "cancelled"
    assert kept.report.result().num_rows == 2


def test_what_is_cancelled_in_line_is_never_run(model, processor, ref):
    with opened(model, processor, limits=Limits(max_rows=4, wait_ms=LONG)) as engine:
        with held(engine):
            answers = [engine.ask(question([ref])) for _ in range(4)]
            watched = engine.watch(ref)
            for answer in answers:
                answer.cancel()
                assert list(answer) == []
            assert watched.cancel()
            assert engine.num_open == 1  # what holds it
        with inputs_seen(model.backbone.vision_tower) as seen:
            engine.run(lambda _: None).result(60)
        assert seen == []


def test_who_is_late_hears_so_at_once_and_costs_nothing(model, processor, ref, monkeypatch):
    gate = threading.Event()
    read = processor.read
    monkeypatch.setattr(processor, "read", lambda ref: gate.wait(60) and read(ref))
    with opened(model, processor) as engine:
        reading = engine.ask(question([ref], seconds=0.05))
        assert list(reading) == []  # while it is decoded
        gate.set()
        with held(engine):
            waiting = engine.ask(question([ref], seconds=0.05))
            assert list(waiting) == []
        running = engine.ask(question([ref], tokens=1000))
        heard = iter(running)
        next(heard)
        running.deadline = time.monotonic()
        assert len(list(heard)) < 900
    reports = [answer.report.result(0) for answer in (reading, waiting, running)]
    assert [report.finish for report in reports] == ["late"] * 3
    assert ["prefill" in report.milliseconds for report in reports] == [False, False, True]


def test_a_full_line_refuses_and_takes_again_when_one_has_left(model, processor, ref):
    with opened(model, processor, limits=Limits(max_waiting=3, max_rows=1)) as engine:
        with held(engine):
            first = engine.ask(question([ref]))
            engine.watch(ref)
            assert engine.num_open == 3
            for ask in (lambda: engine.ask(question([ref])), lambda: engine.watch(ref), lambda: engine.run(repr)):
                with pytest.raises(FullError, match="while busy with 3 others, expected fewer than 3"):
                    ask()
            first.cancel()
            last = engine.ask(question([ref]))
        assert "".join(last) == alone(model, processor, question([ref]))


def test_decoding_rests_while_enough_wait_decoded(model, processor, ref, monkeypatch):
    """Each has pixels, and the line may be long."""
    prepared = []
    with opened(model, processor, limits=Limits(max_rows=2, wait_ms=0.0)) as engine:
        prepare = engine.media.prepare
        monkeypatch.setattr(engine.media, "prepare", lambda refs: prepared.append(refs) or prepare(refs))
        with held(engine):
            answers = [engine.ask(question([ref])) for _ in range(12)]
            until = time.monotonic() + 60
            while len(prepared) < 4 and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.1)
            assert 4 <= len(prepared) <= 6  # as many readers may have begun
        for answer in answers:
            assert "".join(answer)
        assert len(prepared) == 12


def test_closing_answers_what_is_in_line(model, processor, ref):
    engine = Engine(model, processor, limits=Limits(max_rows=2))
    answers = [engine.ask(question([ref])) for _ in range(5)]
    watched, ran = engine.watch(ref), engine.run(lambda model: type(model).__name__)
    engine.close()
    assert {"".join(answer) for answer in answers} == {alone(model, processor, question([ref]))}
    assert watched.result(0).grid.shape == (4, 6, 6, 96)
    assert ran.result(0) == "VideoLLM"
    assert engine.is_closing
    for ask in (lambda: engine.ask(question([ref])), lambda: engine.watch(ref), lambda: engine.run(repr)):
        with pytest.raises(FullError, match="while closing"):
            ask()
    engine.close()


def test_closing_waits_no_longer_than_told_and_leaves_nobody_waiting(model, processor, ref):
    engine = Engine(model, processor, limits=Limits(max_rows=1))
    gate = threading.Event()
    busy = engine.run(lambda _: gate.wait(60))
    answers = [engine.ask(question([ref], tokens=5000)) for _ in range(5)]
    watched = engine.watch(ref)
    closing = threading.Thread(target=engine.close, args=(0.05,))
    closing.start()
    assert [list(answer) for answer in answers] == [[]] * 5
    with pytest.raises(CancelledError):
        watched.result(60)
    gate.set()
    closing.join(60)
    assert busy.result(0)
    assert {answer.report.result(0).finish for answer in answers} == {"cancelled"}


def test_a_thread_that_dies_leaves_nobody_waiting(model, processor, ref, monkeypatch):
    """By a fault of ours; here of the line."""
    died = []
    monkeypatch.setattr(threading, "excepthook", lambda told: died.append(told.exc_value))
    with opened(model, processor) as engine:
        with held(engine):
            answer, watched = engine.ask(question([ref])), engine.watch(ref)
            error = ZeroDivisionError("a fault")
            monkeypatch.setattr(engine._line, "next", lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            list(answer)
        with pytest.raises(ZeroDivisionError):
            watched.result(60)
        with pytest.raises(FullError):
            engine.ask(question([ref]))
    assert [type(one) for one in died] == [type(error)]


def test_watching_encodes_once_and_says_what_is_wrong(model, processor, ref, tmp_path):
    with opened(model, processor) as engine, inputs_seen(model.backbone.vision_tower) as seen:
        medium = engine.watch(ref).result(60)
        list(engine.ask(question([ref])))
        assert engine.watch(ref).result(60).grid is medium.grid
        with pytest.raises(FileNotFoundError):
            engine.watch(MediumRef("video", str(tmp_path / "none.mp4"))).result(60)
        with pytest.raises(ZeroDivisionError):
            engine.run(lambda _: 1 // 0).result(60)
    assert len(seen) == 1
    assert torch.equal(medium.frames, processor.read(ref).frames)


def test_stages_add_up_to_the_time_since_it_was_asked(model, processor, ref):
    """Waiting for a reader, for the model and for the other rows included."""
    ends = {}
    with opened(model, processor, limits=Limits(max_rows=2, wait_ms=LONG)) as engine:
        with held(engine):
            start = time.perf_counter()
            answers = [engine.ask(question([ref])) for _ in range(4)]
            asked = time.perf_counter()
            for answer in answers:
                answer.report.add_done_callback(lambda report: ends.setdefault(report, time.perf_counter()))
            time.sleep(0.05)
        reports = [answer.report.result(60) for answer in answers]
    for answer, report in zip(answers, reports, strict=True):
        stages, end = report.milliseconds, ends[answer.report]
        assert list(stages) == ["decode", "encode", "pool", "queue", "prefill", "tokens"]
        assert min(stages.values()) >= 0
        assert stages["decode"] + stages["queue"] >= 50
        assert 600 * (end - asked) <= sum(stages.values()) <= 1000 * (end - start)


def test_what_was_asked_goes_with_its_last_use(model, processor, ref):
    """Without a collector of garbage: pixels and features are large."""
    gc.disable()
    try:
        with opened(model, processor, keeping=Keeping(memory_gib=0.0)) as engine:
            watched, answer = engine.watch(ref), engine.ask(question([ref], tokens=50))
            heard = iter(answer)
            next(heard)
            assert len(engine.media._wanted) == 0, "pixels are not held while the answer is on its way"
            list(heard)
            held = [weakref.ref(thing) for thing in (answer, watched, watched.result(60).grid)]
            del answer, watched, heard
            until = time.monotonic() + 10
            while any(thing() is not None for thing in held) and time.monotonic() < until:
                time.sleep(0.01)
            assert [thing() for thing in held] == [None] * 3
    finally:
        gc.enable()


def test_media_go_when_nobody_asked_for_long_although_nobody_asks(model, processor, ref, monkeypatch):
    monkeypatch.setattr("ppl.serving.engine._IDLE", 0.01)
    with opened(model, processor, keeping=Keeping(seconds=0.05)) as engine:
        engine.watch(ref).result(60)
        until = time.monotonic() + 60
        while engine.media.kept.num_bytes and time.monotonic() < until:
            time.sleep(0.01)
        assert engine.media.kept.num_bytes == 0


def test_features_in_a_folder_serve_the_next_engine(ref, tmp_path):
    said = []
    for runs in (1, 0):
        torch.manual_seed(0)
        model = guided_model(cache=FeatureCache(Caching(folder=str(tmp_path))))
        model.backbone.vision_tower.requires_grad_(False)
        processor = Processor(model.input_spec, num_frames=4)
        with inputs_seen(model.backbone.vision_tower) as seen, opened(model, processor) as engine:
            said.append("".join(engine.ask(question([ref]))))
        assert len(seen) == runs
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooler": "none"}, "got pooler 'none', expected one of average, adaptive"),
        ({"pooler": "adaptive", "budget": 9}, "got a budget of 9 tokens for AdaptiveAveragePooler"),
        ({"budget": 0}, "got a budget of 0 tokens, expected at least 1"),
        ({"generation": Generation(num_beams=2)}, "got num_beams=2, expected 1: beams are not known as they come"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(model, processor, ref, options, message):
    poolers = {"average": AveragePooler(), "adaptive": AdaptiveAveragePooler()}
    with opened(model, processor, poolers=poolers) as engine:
        with pytest.raises(ValueError, match=message):
            engine.ask(question([ref], **options))
        assert engine.num_open == 0
