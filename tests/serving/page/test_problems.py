"""What a visitor is told."""

import logging

import pytest

from ppl.modules.poolers.average import AveragePooler
from ppl.serving.http.errors import ApiError
from ppl.serving.http.store import FullStoreError
from ppl.serving.line import FullError
from ppl.serving.page.problems import in_words
from ppl.serving.variants import with_budget


def raised(call):
    try:
        call()
    except Exception as error:
        return error
    pytest.fail("nothing was raised")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FullError("full"), "ask again in a moment"),
        (FullStoreError(), "no room for another clip"),
        (TimeoutError(), "no time left"),
        (ApiError(400, "got 9 s of video"), "got 9 s of video"),
        (FileNotFoundError("got /srv/private/clip.mp4, which is gone"), "got clip.mp4, which is gone"),
        (FileNotFoundError("got /srv/secret/key, which is gone"), "got (a path), which is gone"),
    ],
)
def test_what_can_be_done_is_said_without_paths(error, words, caplog):
    told = in_words(error, {"/srv/private/clip.mp4": "clip.mp4"})
    assert words in told
    assert "/srv" not in told
    assert not caplog.records


def test_our_own_errors_are_for_the_visitor():
    error = raised(lambda: with_budget(AveragePooler(), 0))
    assert in_words(error, {}) == "got a budget of 0 tokens, expected at least 1"


def test_anything_else_goes_to_the_log(caplog):
    with caplog.at_level(logging.ERROR):
        told = in_words(raised(lambda: {}["secret"]), {})
    assert "secret" not in told
    assert "the server has logged" in told
    assert "KeyError: 'secret'" in caplog.text
