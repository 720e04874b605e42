"""One answer: its text as it comes, its end whoever brings it, its report."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import torch

from ppl.serving.answers import Answer, RowStreamer
from tests.modules.tiny import tiny_backbone

LONG = 60.0


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_backbone().tokenizer


@pytest.fixture
def answer_of(tokenizer):
    def make(*stop_strings, tokens=100, seconds=LONG):
        return Answer(tokenizer, stop_strings, tokens, time.monotonic() + seconds)

    return make


def say(answer, text):
    for token in answer._tokenizer(text, add_special_tokens=False)["input_ids"]:
        answer.take(token)


def test_text_is_there_as_it_comes(answer_of):
    answer = answer_of()
    heard = iter(answer)
    say(answer, "red")
    assert next(heard) == "red"
    say(answer, "square")
    assert next(heard) == " square"
    answer.take(answer._tokenizer.eos_token_id)
    assert list(heard) == []
    assert (answer.report.result().finish, answer.report.result().num_tokens) == ("stop", 2)


def test_the_end_token_is_no_text_and_what_comes_after_is_nothing(answer_of, tokenizer):
    answer = answer_of()
    for token in (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("red")):
        answer.take(token)
    assert list(answer) == []
    assert answer.report.result().num_tokens == 0


def test_a_padding_token_that_the_model_says_is_no_end(answer_of, tokenizer):
    """Alone it would not be one either; after the end it is never taken."""
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    answer = answer_of()
    answer.take(tokenizer.pad_token_id)
    assert not answer.ended.is_set()


def test_an_answer_ends_at_its_longest(answer_of):
    answer = answer_of(tokens=2)
    say(answer, "red square find")
    assert "".join(answer) == "red square"
    assert answer.report.result().finish == "length"


def test_an_answer_ends_at_the_token_that_completes_a_stop_string(answer_of):
    answer = answer_of("square find")
    say(answer, "red square")
    assert not answer.ended.is_set()
    say(answer, "find find")
    assert "".join(answer) == "red "
    assert (answer.report.result().finish, answer.report.result().num_tokens) == ("stop", 3)


def test_a_special_token_is_a_stop_string_too(answer_of, tokenizer):
    special = next(token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token)
    answer = answer_of(special)
    answer.take(tokenizer.convert_tokens_to_ids(special))
    assert answer.report.result().finish == "stop"


def test_a_cancelled_answer_keeps_what_was_said(answer_of):
    answer = answer_of()
    say(answer, "red")
    answer.cancel()
    say(answer, "square")
    assert list(answer) == ["red"]
    assert answer.report.result().finish == "cancelled"


def test_whoever_iterates_again_gets_nothing_and_does_not_wait(answer_of):
    answer = answer_of(tokens=1)
    say(answer, "red")
    assert list(answer) == ["red"]
    assert list(answer) == []


@pytest.mark.parametrize("how", ["close", "forget"])
def test_an_iterator_that_ends_early_cancels(answer_of, how):
    answer = answer_of()
    say(answer, "red")
    heard = iter(answer)
    next(heard)
    if how == "close":
        heard.close()
    else:
        heard = [heard]
        heard.append(heard)  # a circle, as those of frames and errors are
        del heard
        gc.collect()
    assert answer.report.result(1).finish == "cancelled"


def test_a_deadline_is_kept_although_the_model_says_nothing(answer_of):
    answer = answer_of(seconds=0.05)
    start = time.monotonic()
    assert list(answer) == []
    assert 0.05 <= time.monotonic() - start < LONG / 2
    assert answer.report.result().finish == "late"


def test_a_deadline_is_kept_although_nobody_listens(answer_of):
    answer = answer_of(seconds=-1.0)
    say(answer, "red square")
    assert (answer.report.result().finish, answer.report.result().num_tokens) == ("late", 1)
    assert not answer_of(seconds=-1.0).is_wanted()


def test_a_time_without_end_can_be_waited_for(answer_of):
    answer = answer_of(seconds=float("inf"))
    threading.Timer(0.01, answer.cancel).start()
    assert list(answer) == []


def test_an_error_is_raised_once_what_was_said_is_read(answer_of):
    answer = answer_of()
    say(answer, "red")
    answer.fail(RuntimeError("out of memory"))
    heard = iter(answer)
    assert next(heard) == "red"
    with pytest.raises(RuntimeError, match="out of memory"):
        next(heard)


def test_an_error_holds_no_tensors(answer_of):
    answer = answer_of()

    def fail(values):
        raise RuntimeError(f"no room for {len(values)}")

    try:
        fail(torch.zeros(3))
    except RuntimeError as error:
        answer.fail(error)
    frame = answer.report.exception().__traceback__.tb_next.tb_frame
    assert (frame.f_code.co_name, frame.f_locals) == ("fail", {})


def test_nobody_else_ends_the_report(answer_of):
    """As asyncio would that of a task which is cancelled; the thread of the model would fall over it."""
    answer = answer_of()
    assert not answer.report.cancel()
    answer.end("stop")
    assert answer.report.result().finish == "stop"


@pytest.mark.parametrize("_", range(20))
def test_the_first_of_many_ends_it(answer_of, _):
    """Whichever that is: no other raises, and the report is what the first said."""
    answer = answer_of()
    at_once = threading.Barrier(5)
    ends = [
        answer.cancel,
        lambda: answer.end("stop"),
        lambda: answer.end("length"),
        lambda: answer.fail(OSError()),
        lambda: list(answer),
    ]

    def race(end):
        at_once.wait()
        end()

    with ThreadPoolExecutor(5) as pool:
        done = wait([pool.submit(race, end) for end in ends]).done
    assert {type(job.exception()) for job in done} <= {type(None), OSError}
    assert answer.report.done()


def test_rows_go_to_their_answers(answer_of, tokenizer):
    red, square, end = (tokenizer.convert_tokens_to_ids(word) for word in ("red", "square", tokenizer.eos_token))
    answers = [answer_of(), answer_of()]
    streamer = RowStreamer(answers)
    streamer.put(torch.empty(2, 0, dtype=torch.int64))
    for step in ([red, square], [end, red], [tokenizer.pad_token_id, end]):
        streamer.put(torch.tensor(step))
    streamer.end()
    assert ["".join(answer) for answer in answers] == ["red", "square red"]
    reports = [answer.report.result() for answer in answers]
    assert [report.num_rows for report in reports] == [2, 2]
    assert 0 < reports[0].milliseconds["tokens"] < reports[1].milliseconds["tokens"]
    assert reports[0].milliseconds["prefill"] == reports[1].milliseconds["prefill"] > 0
