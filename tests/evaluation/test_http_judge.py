"""Against a real server on this machine, which misbehaves in every way that a judge's does."""

import json
import time
from email.utils import formatdate

import pytest

from ppl.evaluation.chat_completion import Endpoint, EndpointError, RequestError
from ppl.evaluation.http_judge import HttpJudge, Patience
from ppl.evaluation.judge import Request
from ppl.evaluation.judge_cache import JudgeCache
from tests.evaluation.misbehaving_judge import (
    REPLY,
    cut_off,
    dripping,
    good,
    hang_up,
    in_groups_of,
    judge_server,
    malformed,
    other_json,
    replying,
    slow,
    status,
)

REQUEST = Request("system", "user")
QUICK = Patience(timeout=5.0, retries=2, first_wait=0.01, longest_wait=0.05)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def judge_at(url, tmp_path, patience=QUICK, **values):
    return HttpJudge(Endpoint(url, "m", "secret"), JudgeCache(tmp_path / "c/replies.jsonl"), patience, **values)


def requests(count):
    return [Request("system", f"user {i}") for i in range(count)]


def test_what_is_sent_and_what_comes_back(tmp_path):
    with judge_server() as server:
        judge = judge_at(server.url, tmp_path)
        assert judge.ask([Request("be strict", "is it?", 7), Request("", "alone")]) == [REPLY, REPLY]
    paths, bodies = zip(*server.received, strict=True)
    assert set(paths) == {"/v1/chat/completions"}
    first, second = sorted(bodies, key=lambda body: len(body["messages"]), reverse=True)
    assert first == {
        "model": "m",
        "messages": [{"role": "system", "content": "be strict"}, {"role": "user", "content": "is it?"}],
        "temperature": 0.0,
        "max_tokens": 7,
    }
    assert second["messages"] == [{"role": "user", "content": "alone"}]
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert judge.identity == {"model": "m", "temperature": 0.0}
    assert "secret" not in (tmp_path / "c/replies.jsonl").read_text() + repr(judge.endpoint)


@pytest.mark.parametrize("end", ["", "/", "/chat/completions", "/chat/completions/"])
def test_the_address_may_be_given_with_or_without_its_end(tmp_path, end):
    with judge_server() as server:
        assert judge_at(server.url + end, tmp_path).ask([REQUEST]) == [REPLY]
    assert server.received[0][0] == "/v1/chat/completions"


@pytest.mark.parametrize(
    "bad",
    [status(429), status(500), status(503), malformed, other_json, cut_off, hang_up, replying(""), replying(None)],
    ids=["429", "500", "503", "malformed", "other json", "cut off", "hung up", "empty", "null"],
)
def test_what_passes_is_asked_again_until_the_retries_are_spent(tmp_path, bad):
    with judge_server(bad, bad) as server:
        assert judge_at(server.url, tmp_path).ask([REQUEST]) == [REPLY]
        assert len(server.received) == 3
    with judge_server(always=bad) as server:
        judge = judge_at(server.url, tmp_path / "again")
        assert judge.ask([REQUEST]) == [None]
        assert (len(server.received), judge.failures.total()) == (3, 1)
        assert judge.cached(REQUEST) is None


def test_a_reply_that_comes_too_slowly_is_asked_for_again(tmp_path):
    patience = QUICK._replace(timeout=0.3)
    for lazy in (slow(1.0), dripping(1.5)):
        with judge_server(lazy) as server:
            began = time.monotonic()
            assert judge_at(server.url, tmp_path / str(id(lazy)), patience).ask([REQUEST]) == [REPLY]
            assert time.monotonic() - began >= 0.3
            assert len(server.received) == 2, "the first reply was not waited for"


@pytest.mark.parametrize("seconds", [True, False], ids=["seconds", "a date"])
def test_a_server_is_left_alone_for_as_long_as_it_asks(tmp_path, seconds):
    """A date counts whole seconds: two from now is more than one away."""
    after = "1" if seconds else formatdate(time.time() + 2, usegmt=True)
    with judge_server(status(429, Retry_After=after)) as server:
        began = time.monotonic()
        assert judge_at(server.url, tmp_path, QUICK._replace(longest_wait=3.0)).ask([REQUEST]) == [REPLY]
        assert time.monotonic() - began >= 0.9
    with judge_server(status(429, Retry_After="100"), status(429, Retry_After="soon")) as server:
        began = time.monotonic()
        assert judge_at(server.url, tmp_path / "b", QUICK).ask([REQUEST]) == [REPLY]
        assert time.monotonic() - began < 50


def test_waits_double(tmp_path):
    judge = judge_at("http://x", tmp_path, Patience(first_wait=1.0, longest_wait=10.0))
    for tried, least in enumerate((1, 2, 4, 8), start=1):
        assert least <= judge._pause(tried, RequestError("")) <= min(1.5 * least, 10)
    assert judge._pause(9, RequestError("")) == 10
    assert judge._pause(1, RequestError("", retry_after=7.0)) == 7


@pytest.mark.parametrize("code", [401, 403, 404, 302])
def test_an_endpoint_that_refuses_everybody_is_an_error_at_once(tmp_path, code):
    with judge_server(always=status(code, b"no such model", Location="http://127.0.0.1:1/")) as server:
        message = rf"got status {code} from .*/chat/completions \(no such model\).*model \(m\) and key right\?"
        with pytest.raises(EndpointError, match=message):
            judge_at(server.url, tmp_path, concurrency=1).ask(requests(20))
        assert len(server.received) == 1


def test_a_request_that_is_at_fault_itself_is_not_repeated(tmp_path):
    with judge_server(status(400, b"too long")) as server:
        judge = judge_at(server.url, tmp_path, concurrency=1)
        assert judge.ask(requests(3)) == [None, REPLY, REPLY]
        assert judge.failures == {"got status 400 (too long)": 1}
        assert len(server.received) == 3


def test_a_judge_that_is_not_there_is_given_up(tmp_path):
    with judge_server() as server:
        pass
    judge = judge_at(server.url, tmp_path, QUICK._replace(failures=3))
    with pytest.raises(EndpointError, match=r"got no reply from .* to 3 requests in a row.*broke off: Connection"):
        judge.ask(requests(50))
    assert judge.failures.total() < 50


def test_a_few_failures_among_replies_do_not_end_it(tmp_path):
    with judge_server(*[status(500), status(500), status(500), good] * 4) as server:
        judge = judge_at(server.url, tmp_path, QUICK._replace(failures=2), concurrency=1)
        assert judge.ask(requests(8)) == [None, REPLY] * 4
        assert judge.failures == {"got status 500": 4}


def test_requests_go_out_together_in_any_order_and_come_back_in_theirs(tmp_path):
    asked, told = requests(8), []
    patience = QUICK._replace(timeout=60.0)
    with judge_server(always=in_groups_of(4)) as server:
        judge = judge_at(
            server.url, tmp_path, patience, concurrency=4, progress=lambda done, total: told.append((done, total))
        )
        assert judge.ask(asked) == [each.user.upper() for each in asked]
    assert server.most_at_once == 4
    assert told == [(i, 8) for i in range(1, 9)]


def test_nothing_is_asked_twice_and_a_run_that_ended_early_goes_on(tmp_path):
    with judge_server(good, good, always=status(401)) as server, pytest.raises(EndpointError):
        judge_at(server.url, tmp_path, concurrency=1).ask(requests(5))
    with judge_server() as server:
        judge = judge_at(server.url, tmp_path)
        assert judge.ask([*requests(5), *requests(5)]) == [REPLY] * 10
        assert len(server.received) == 3
        assert judge.ask(requests(5)) == [REPLY] * 5
        assert len(server.received) == 3


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "", "http://"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match=r"got judge address .* expected one like http://localhost:8000/v1"):
        Endpoint(url, "m")


def test_a_judge_that_would_never_be_asked_is_refused(tmp_path):
    for concurrency, patience in ((0, QUICK), (1, QUICK._replace(retries=-1)), (1, QUICK._replace(timeout=0.0))):
        with pytest.raises(ValueError, match=r"got .* expected at least 1, 0 and more than 0"):
            judge_at("http://x", tmp_path, patience, concurrency=concurrency)


def test_the_cache_keeps_what_was_asked_readable(tmp_path):
    with judge_server() as server:
        judge_at(server.url, tmp_path).ask([REQUEST])
    line = json.loads((tmp_path / "c/replies.jsonl").read_text())
    assert (line["judge"], line["request"]["user"], line["reply"]) == (
        {"model": "m", "temperature": 0.0},
        "user",
        REPLY,
    )
