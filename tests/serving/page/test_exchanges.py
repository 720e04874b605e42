"""Answers of two questions, read as they come."""

from concurrent.futures import Future
from threading import Event

import pytest

from ppl.serving.answers import Answer, Report
from ppl.serving.page.exchanges import Reply, Way, pieces_of


class Said(Answer):
    """Yields words once it may, then may fail."""

    def __init__(self, words, error=None, begin=None):
        self.words, self.error, self.begin = words, error, begin
        self.report = Future()
        self.report.set_result(Report("stop"))

    def __iter__(self):
        assert self.begin is None or self.begin.wait(60)
        yield from self.words
        if self.error:
            raise self.error


def test_a_slow_answer_does_not_hold_up_a_quick_one():
    begin = Event()
    pieces = pieces_of({0: Said(["slow"], begin=begin), 3: Said(["a", "b", "c"])})
    assert [next(pieces) for _ in range(4)] == [(3, "a"), (3, "b"), (3, "c"), (3, Report("stop"))]
    begin.set()
    assert list(pieces) == [(0, "slow"), (0, Report("stop"))]


def test_an_error_ends_its_own_answer_only():
    error = ValueError("no")
    got = list(pieces_of({0: Said(["a"], error), 1: Said(["b"])}))
    assert [piece for index, piece in got if index == 0] == ["a", error]
    assert [piece for index, piece in got if index == 1] == ["b", Report("stop")]


def test_no_answers_are_no_pieces():
    assert list(pieces_of({})) == []


@pytest.mark.parametrize(
    ("piece", "text", "problem"), [("b", "ab", ""), (Report("stop"), "a", ""), (ValueError("no"), "a", "explained: no")]
)
def test_a_reply_takes_what_comes(piece, text, problem):
    reply = Reply(Way(), "a")
    reply.extend(piece, lambda error: f"explained: {error}")
    assert (reply.text, reply.problem) == (text, problem)
    assert (reply.report is not None) == isinstance(piece, Report)
