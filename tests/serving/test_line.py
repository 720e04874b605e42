"""Who is next, and with whom; what the line holds, and lets go."""

import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest

from ppl.datamodules.processing import Processor
from ppl.modules.generation import Generation
from ppl.serving.answering import Asked, Question
from ppl.serving.answers import Answer
from ppl.serving.line import Call, FullError, Limits, Line
from tests.modules.tiny import guided_model

COLD, WARM = Generation(), Generation(temperature=1.0)


@pytest.fixture(scope="module")
def asked_of():
    model = guided_model()
    processor = Processor(model.input_spec)

    def make(generation):
        answer = Answer(model.backbone.tokenizer, (), 9, time.monotonic() + 60.0)
        return Asked(Question((), generation=generation), answer, model, processor)

    return make


def taken_on(line, asked):
    line.take_on(asked.answer, lambda: line.enter(asked))
    return asked


def test_like_questions_are_next_together_and_the_others_keep_their_places(asked_of):
    line = Line(Limits(max_rows=3, wait_ms=0.0))
    a, b, c, d, e, f = [taken_on(line, asked_of(how)) for how in (COLD, WARM, COLD, WARM, COLD, COLD)]
    call = Call(dict)
    line.take_on(call, lambda: line.enter(call))
    g = taken_on(line, asked_of(WARM))
    assert [line.next() for _ in range(4)] == [[a, c, e], [b, d, g], [f], call]
    assert line.next() == []


def test_a_batch_waits_for_others_but_no_longer_than_told(asked_of):
    line = Line(Limits(max_rows=2, wait_ms=60_000.0))
    first, second = (asked_of(COLD) for _ in range(2))
    taken_on(line, first)
    threading.Timer(0.02, lambda: taken_on(line, second)).start()
    assert line.next() == [first, second]
    line = Line(Limits(max_rows=2, wait_ms=20.0))
    taken_on(line, first)
    start = time.monotonic()
    assert line.next() == [first]
    assert 0.02 <= time.monotonic() - start < 5


def test_who_has_gone_is_not_next(asked_of):
    line = Line(Limits(wait_ms=60_000.0))
    taken_on(line, asked_of(COLD)).answer.cancel()
    assert line.num_open == 0
    assert line.next() == []


def test_an_error_before_the_line_leaves_nothing_open(asked_of):
    line = Line(Limits(max_waiting=1))
    with pytest.raises(ZeroDivisionError):
        line.take_on(asked_of(COLD).answer, lambda: 1 // 0)
    ended = asked_of(COLD).answer
    line.take_on(ended, ended.cancel)
    assert line.num_open == 0


def test_what_has_left_is_held_by_nobody(asked_of):
    line = Line(Limits())
    call = Call(list)
    line.take_on(call, lambda: None)
    gone = weakref.ref(call)
    call()
    del call
    assert gone() is None


def test_waiting_ends_with_work_and_with_closing():
    line = Line(Limits())
    assert not line.wait(0.01)
    call = Call(lambda: "done")
    line.take_on(call, lambda: line.enter(call))
    assert line.wait(60.0)
    line.next()()
    assert call.report.result(0) == "done"
    threading.Timer(0.02, line.close, [0.0]).start()
    assert line.wait(60.0)
    assert line.next() is None


def test_closing_cancels_what_is_left_but_nothing_that_runs():
    line = Line(Limits())
    running, waiting = Call(dict), Call(dict)
    for call in (running, waiting):
        line.take_on(call, lambda: None)
    assert running.report.set_running_or_notify_cancel()
    line.close(0.0)
    with pytest.raises(CancelledError):
        waiting.report.result(0)
    waiting()  # nothing
    assert (line.num_open, line.next()) == (1, [])
    running.report.set_result({})
    assert line.next() is None
    with pytest.raises(FullError, match="while closing"):
        line.take_on(Call(dict), lambda: None)


@pytest.mark.parametrize("what", ["call", "question"])
def test_room_is_there_once_the_model_has_taken_some_out(asked_of, what):
    line = Line(Limits(max_rows=1, wait_ms=0.0))
    for _ in range(2):
        line.enter(Call(dict) if what == "call" else asked_of(COLD))
    waiting = threading.Thread(target=line.wait_for_room, daemon=True)
    waiting.start()
    waiting.join(0.02)
    assert waiting.is_alive()
    line.next()
    waiting.join(60)
    assert not waiting.is_alive()


def test_nobody_waits_for_room_where_none_will_come(asked_of):
    """As readers would, for which closing waits: the thread of the model ends with the line, whatever has entered."""
    line = Line(Limits(max_rows=1))
    for _ in range(2):
        line.enter(asked_of(COLD))
    waiting = threading.Thread(target=line.wait_for_room, daemon=True)
    waiting.start()
    line.close(0.0)
    waiting.join(60)
    assert not waiting.is_alive()


@pytest.mark.parametrize("name", ["max_waiting", "max_rows", "num_readers", "wait_ms"])
def test_limits_make_sense(name):
    least = 0 if name == "wait_ms" else 1
    with pytest.raises(ValueError, match=rf"got {name}={least - 1}.*, expected at least {least}"):
        Limits(**{name: type(getattr(Limits(), name))(least - 1)})
