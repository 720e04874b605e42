"""Clients that go, and clients that do not read."""

import asyncio
import time

import pytest

from ppl.modules.video_llm import VideoLLM
from tests.serving.http.asgi import Connection
from tests.serving.http.conftest import chat

LONG = 200


@pytest.fixture
def steps(monkeypatch):
    """Let each step of the model take a while, and count the steps."""
    counted = []
    forward = VideoLLM.generate

    def slowly(self, *args, streamer, **options):
        put = streamer.put

        def put_slowly(value):
            counted.append(1)
            time.sleep(0.02)
            put(value)

        streamer.put = put_slowly
        return forward(self, *args, streamer=streamer, **options)

    monkeypatch.setattr(VideoLLM, "generate", slowly)
    return counted


def until(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it never came to pass")


async def it_is_so(condition):
    while not condition():
        await asyncio.sleep(0.01)


def finishes(client):
    text = client.get("/metrics").text
    return {line for line in text.splitlines() if line.startswith("ppl_answers_total")}


def test_a_client_that_goes_in_the_middle_of_a_stream_frees_its_slot(client, steps):
    engine = client.app.state.serving.engine
    connection = asyncio.run(Connection(chat(stream=True, max_tokens=LONG), gone=3).run(client.app))
    assert connection.status == 200
    assert b"[DONE]" not in connection.body
    until(lambda: engine.num_open == 0)
    assert len(steps) < LONG
    assert finishes(client) == {'ppl_answers_total{finish="cancelled"} 1.0'}


def test_so_does_one_that_goes_before_a_whole_answer(client, steps):
    engine = client.app.state.serving.engine

    async def go():
        connection = Connection(chat(max_tokens=LONG))
        task = asyncio.create_task(connection.run(client.app))
        await it_is_so(lambda: steps)
        connection.is_gone.set()
        await task

    asyncio.run(go())
    until(lambda: engine.num_open == 0)
    assert len(steps) < LONG


def test_and_one_that_does_not_read(serve, steps):
    client = serve(stall_seconds=0.3)
    engine = client.app.state.serving.engine
    connection = Connection(chat(stream=True, max_tokens=LONG), gone=3, stalls=True)
    with pytest.raises(TimeoutError):  # upon which the server closes the connection
        asyncio.run(connection.run(client.app))
    until(lambda: engine.num_open == 0)
    assert len(steps) < LONG


def test_one_that_is_cut_off_by_the_server_s_end_too(client, steps):
    engine = client.app.state.serving.engine

    async def cut():
        connection = Connection(chat(stream=True, max_tokens=LONG))
        task = asyncio.create_task(connection.run(client.app))
        await it_is_so(lambda: len(connection.sent) > 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cut())
    until(lambda: engine.num_open == 0)
    assert len(steps) < LONG


def test_the_end_in_the_middle_of_a_stream_is_told(client, steps):
    serving = client.app.state.serving

    async def end():
        connection = Connection(chat(stream=True, max_tokens=LONG))
        task = asyncio.create_task(connection.run(client.app))
        await it_is_so(lambda: len(connection.sent) > 3)
        await asyncio.to_thread(serving.engine.close, 0.0)
        await task
        return connection

    connection = asyncio.run(end())
    assert connection.body.rstrip().endswith(b'"type": "server_error", "param": null, "code": null}}')
    assert b"[DONE]" not in connection.body
