"""Answers of two questions, read as they come."""

import time
from concurrent.futures import Future

import pytest

from ppl.serving.answers import Answer, Report
from ppl.serving.page.exchanges import Reply, Way, pieces_of


class Slow(Answer):
    """Yields words with pauses, then may fail."""

    def __init__(self, words, pause, error=None):
        self.words, self.pause, self.error = words, pause, error
        self.report = Future()
        self.report.set_result(Report("stop"))

    def __iter__(self):
        for word in self.words:
            time.sleep(self.pause)
            yield word
        if self.error:
            raise self.error


def test_a_slow_answer_does_not_hold_up_a_quick_one():
    answers = {0: Slow(["slow"], 0.5), 3: Slow(["a", "b", "c"], 0.01)}
    got = list(pieces_of(answers))
    assert [piece for index, piece in got if index == 3] == ["a", "b", "c", Report("stop")]
    assert got.index((3, Report("stop"))) < got.index((0, "slow"))
    assert got[-1] == (0, Report("stop"))


def test_an_error_ends_its_own_answer_only():
    error = ValueError("no")
    got = list(pieces_of({0: Slow(["a"], 0.0, error), 1: Slow(["b"], 0.05)}))
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
