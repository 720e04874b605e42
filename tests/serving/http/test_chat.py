"""Chat completions within this process; test_server.py has OpenAI's client and a server of its own."""

import json
import threading
import time

import pytest
import torch

from ppl.datamodules.records import Turn
from ppl.modules.generation import Generation
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.video_llm import VideoLLM
from ppl.serving.encoded_media import medium_at
from ppl.serving.http.settings import Caps
from ppl.serving.line import Limits
from ppl.serving.session import ChatSession
from tests.serving.http.conftest import QUESTION, about, chat
from tests.serving.small_gpu import short_of_memory

OTHER = "which way does the ring move ?"


@pytest.fixture
def session(model, processor, clip):
    return ChatSession(model, processor, clip)


def answer(session, question, tokens=8, **settings):
    return "".join(session.ask(question, Generation(max_new_tokens=tokens, **settings)))


def content(got):
    return got["choices"][0]["message"]["content"]


def events(client, body):
    """The events of a stream, without their frame."""
    answered = client.post("/v1/chat/completions", json={**body, "stream": True})
    assert answered.headers["content-type"].startswith("text/event-stream"), answered.text
    lines = [line.removeprefix("data: ") for line in answered.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def joined(events):
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])


def test_the_answer_is_the_chat_session_s(ask, url, session):
    assert content(ask(about(url))) == answer(session, QUESTION) != ""


def test_so_it_is_in_a_second_turn(ask, url, session):
    first = answer(session, QUESTION)
    body = about(url)
    body["messages"] += [{"role": "assistant", "content": first.strip()}, {"role": "user", "content": OTHER}]
    for policy in ("per-turn", "first-turn", "union"):
        session.policy = policy
        session.history = session.history[:2]
        assert content(ask({**body, "policy": policy})) == answer(session, OTHER)


def test_settings_of_the_answer_arrive(ask, url, model, processor, clip):
    settings = {"temperature": 0.9, "top_p": 0.8, "top_k": 40, "repetition_penalty": 1.3, "seed": 5}
    expected = answer(ChatSession(model, processor, clip), QUESTION, 12, **settings)
    assert content(ask(about(url, max_completion_tokens=12, max_tokens=None, **settings))) == expected
    stop = answer(ChatSession(model, processor, clip), QUESTION).split()[1]
    expected = answer(ChatSession(model, processor, clip), QUESTION, stop_strings=(stop,))
    got = ask(about(url, stop=stop))
    assert content(got) == expected
    assert stop not in expected
    assert got["choices"][0]["finish_reason"] == "stop"


def test_a_system_s_and_a_developer_s_words_are_the_same(ask, model, processor):
    session = ChatSession(model, processor)
    session.history = [Turn("system", "be brief")]
    expected = answer(session, "hi", 4)
    for role in ("system", "developer"):
        body = chat("hi")
        body["messages"].insert(0, {"role": role, "content": "be brief"})
        assert content(ask(body)) == expected


def test_a_stream_joins_to_the_answer_and_tells_as_openai_s(client, ask, url):
    whole = ask(about(url))
    streamed = events(client, about(url, stream_options={"include_usage": True}))
    assert streamed[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert joined(streamed) == content(whole)
    assert len(streamed) > 5
    assert [event["choices"][0]["finish_reason"] for event in streamed[:-1]] == [None] * (len(streamed) - 2) + [
        "length"
    ]
    assert (streamed[-1]["choices"], streamed[-1]["usage"]) == ([], whole["usage"])
    assert {(event["id"], event["object"], event["model"]) for event in streamed} == {
        (streamed[0]["id"], "chat.completion.chunk", "tiny")
    }
    assert streamed[-2]["ppl"]["finish"] == "length"
    assert "usage" not in events(client, about(url))[-1]


def test_usage_counts_visual_tokens_and_the_stages_have_times(ask, url, session):
    got = ask(about(url))
    usage = got["usage"]
    assert usage["prompt_tokens_details"] == {"visual_tokens": session.num_visual_tokens}
    assert usage["completion_tokens"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + 8
    assert got["ppl"]["milliseconds"].keys() == {"decode", "queue", "encode", "pool", "prefill", "tokens"}
    assert got["ppl"]["media_found"] == 0
    assert ask(about(url, OTHER))["ppl"]["media_found"] == 1
    assert ask(chat())["usage"]["prompt_tokens_details"] == {"visual_tokens": 0}


def test_a_pooler_and_a_budget_are_chosen_by_a_request(ask, url, session):
    session.switch(AveragePooler(kernel_size=(2, 3, 3)))
    expected = answer(session, QUESTION)
    for how in ({"model": "tiny:average"}, {"pooler": "average"}, {"model": "tiny:average", "pooler": "average"}):
        assert content(ask(about(url, **how))) == expected
    budgeted = ask(about(url, token_budget=3))
    assert 0 < budgeted["usage"]["prompt_tokens_details"]["visual_tokens"] <= 3


def test_the_number_of_frames_is_chosen_by_a_request(ask, url, session):
    got = ask(about(url, num_frames=2))["usage"]["prompt_tokens_details"]["visual_tokens"]
    assert got * 2 == session.num_visual_tokens


def test_several_media_stand_where_they_are(ask, url, session, clip):
    """As the session has them, before the question; the text may also come first."""
    session.add(medium_at(clip, 0.0, None))
    session.media = [session.media[0]] * 2
    expected = answer(session, QUESTION)
    body = about(url)
    body["messages"][0]["content"].insert(0, body["messages"][0]["content"][0])
    assert content(ask(body)) == expected
    body["messages"][0]["content"].reverse()
    assert ask(body)["usage"]["prompt_tokens_details"]["visual_tokens"] == 2 * session.num_visual_tokens / 2


@pytest.mark.parametrize(
    ("fields", "status", "param", "said"),
    [
        ({"model": "gpt"}, 404, "model", "got model 'gpt', expected one of tiny, tiny:average"),
        ({"pooler": "max"}, 400, "pooler", "got pooler 'max', expected one of average"),
        ({"model": "tiny:average", "pooler": "other"}, 400, "pooler", "leave one of them out"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, 400, "max_tokens", "leave one of them out"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options", "without stream"),
        ({"top_p": 0.5}, 400, None, "got top_p=0.5 and top_k=0 with temperature=0"),
        ({"stop": [""]}, 400, None, "texts that are not empty"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, 400, None, "got a turn of the assistant first"),
        ({"messages": [{"role": "user", "content": ""}]}, 400, None, "got an empty question"),
        ({"messages": [{"role": "user", "content": "<media> ?"}]}, 400, None, "got 1 placeholders"),
        ({"messages": [{"role": "user", "content": "red " * 3000}]}, 400, None, "got 3"),
    ],
)
def test_what_does_not_go_is_told(ask, fields, status, param, said):
    error = ask(chat(**fields), status)["error"]
    assert said in error["message"]
    assert error["param"] == param


def test_limits_are_kept_before_anything_is_computed(serve, url, model, monkeypatch):
    client = serve(caps=Caps(media=1, frames=4, tokens=10, text=50))
    monkeypatch.setattr(VideoLLM, "encode", lambda *_: pytest.fail("encoded"))
    twice = about(url)
    twice["messages"][0]["content"] *= 2
    for body, param, said in [
        (twice, "messages", "got 2 media, expected at most 1"),
        (about(url, num_frames=5), "num_frames", "got 5 sampled frames, expected at most 4"),
        (chat(max_tokens=11), "max_tokens", "got 11 tokens of an answer, expected at most 10"),
        (chat("x" * 51), "messages", "got 51 characters, expected at most 50"),
    ]:
        answered = client.post("/v1/chat/completions", json=body)
        assert answered.status_code == 400
        assert answered.json()["error"]["param"] == param
        assert said in answered.json()["error"]["message"]
    assert client.post("/v1/chat/completions", json=chat(max_tokens=None)).json()["usage"]["completion_tokens"] <= 10


def test_media_belong_to_users(ask, url):
    body = about(url)
    body["messages"] = [{**body["messages"][0], "role": "system"}, *chat()["messages"]]
    assert "got a medium in a message of the system" in ask(body, 400)["error"]["message"]


def test_a_fault_of_ours_is_not_told(client, ask, url, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("the secret")

    monkeypatch.setattr(VideoLLM, "encode", broken)
    error = ask(about(url), 500)["error"]
    assert error["message"].startswith("internal error; the server's log tells more of request req-")
    assert error["message"].rpartition(" ")[2] in caplog.text
    assert "the secret" in caplog.text
    monkeypatch.undo()
    assert content(ask(about(url)))


def test_a_stream_that_runs_out_of_memory_says_so(client, url, model):
    short_of_memory(model.backbone.language_model, at=4)
    answered = client.post("/v1/chat/completions", json={**about(url), "stream": True})
    *said, last = [json.loads(line.removeprefix("data: ")) for line in answered.text.split("\n\n") if line]
    assert joined(said)
    assert last["error"]["message"].startswith("the model ran out of memory")
    assert last["error"]["type"] == "server_error"


@pytest.fixture
def held(model, monkeypatch):
    """Let answers begin only when the event is set."""
    go, generate = threading.Event(), VideoLLM.generate

    def later(*args, **options):
        assert go.wait(60)
        return generate(*args, **options)

    monkeypatch.setattr(VideoLLM, "generate", later)
    yield go
    go.set()


def in_background(client, body):
    got = []
    thread = threading.Thread(target=lambda: got.append(client.post("/v1/chat/completions", json=body)))
    thread.start()
    return thread, got


def until(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it never came to pass")


def test_a_full_line_says_when_to_come_again(serve, held):
    client = serve(limits=Limits(max_waiting=1))
    engine = client.app.state.serving.engine
    thread, got = in_background(client, chat())
    until(lambda: engine.num_open == 1)
    refused = client.post("/v1/chat/completions", json=chat())
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["type"] == "rate_limit_error"
    held.set()
    thread.join()
    assert got[0].status_code == 200
    until(lambda: engine.num_open == 0)  # the answer is out a moment before its place is free
    assert client.post("/v1/chat/completions", json=chat()).status_code == 200


def test_an_answer_out_of_time_is_told_as_such(serve, held):
    client = serve(caps=Caps(seconds=0.2))
    thread, got = in_background(client, chat())
    thread.join()
    held.set()
    assert got[0].status_code == 503
    assert got[0].json()["error"]["message"] == "the answer was not begun in time; try again"
    until(lambda: client.app.state.serving.engine.num_open == 0)


def test_while_it_ends_nothing_new_is_taken(client):
    serving = client.app.state.serving
    serving.draining.set()
    refused = client.post("/v1/chat/completions", json=chat())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert client.get("/health").status_code == 503
    serving.draining.clear()
    assert client.get("/health").json() == {"status": "ok"}
    serving.engine.close(0.0)  # as when its thread dies
    assert client.post("/v1/chat/completions", json=chat()).status_code == 503
    assert client.get("/health").status_code == 503


def test_answers_that_the_end_cuts_off_are_told_so(client, held):
    serving = client.app.state.serving
    thread, got = in_background(client, chat())
    until(lambda: serving.engine.num_open == 1)
    closing = threading.Thread(target=serving.engine.close, args=(0.0,))
    closing.start()
    thread.join()
    assert got[0].status_code == 503
    held.set()
    closing.join()


def test_media_are_removed_when_the_answer_is_out(client, ask, url):
    store = client.app.state.serving.store
    ask(about(url))
    until(lambda: store.num_bytes == 0)
    assert list(store.folder.iterdir()) == []
    ask(about(url, model="gpt"), 404)
    ask(about(url, token_budget=3, pooler="average", stop=[""]), 400)
    assert list(store.folder.iterdir()) == []


def test_a_bad_medium_beside_a_good_one_leaves_nothing(client, ask, url):
    body = about(url)
    body["messages"][0]["content"].insert(1, {"type": "video_url", "video_url": {"url": "data:;base64,AAAA"}})
    assert ask(body, 400)["error"]["param"] == "messages.0.content.1"
    assert list(client.app.state.serving.store.folder.iterdir()) == []


def test_answers_of_another_model_differ(ask, url, model, session):
    """The comparison with the session is one that can fail."""
    expected, weight = answer(session, QUESTION), model.backbone.hf.lm_head.weight
    with torch.no_grad():
        weight.neg_()
        got = ask(about(url))
        weight.neg_()
    assert content(got) != expected
