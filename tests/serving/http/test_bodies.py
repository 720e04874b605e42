"""Bodies that are too large, too slow, too many, or something else."""

import asyncio
import json

import pytest

from ppl.serving.http.settings import Caps
from tests.serving.http.asgi import Connection
from tests.serving.http.conftest import chat


def test_a_large_body_is_refused_while_it_comes(serve):
    """Whatever its header says, and however much would still come."""
    client = serve(caps=Caps(body_mib=1.0))
    pieces = [b"x" * 2**18] * 100
    for headers in ([], [(b"content-length", b"5")]):
        connection = Connection(list(pieces), headers=headers)
        asyncio.run(connection.run(client.app))
        assert connection.status == 413
        assert len(connection.pieces) == 95
    assert client.app.state.serving.bodies.num_bytes == 0


def test_a_slow_body_is_given_up(serve):
    client = serve(stall_seconds=0.2)
    body = json.dumps(chat()).encode()
    connection = Connection([body[:9], body[9:]])
    receive = connection.receive

    async def slowly():
        if len(connection.pieces) == 1:
            await asyncio.sleep(60)
        return await receive()

    connection.receive = slowly
    asyncio.run(connection.run(client.app))
    assert connection.status == 408


def test_a_client_that_goes_before_the_end_of_its_request_is_no_fault(client, caplog):
    connection = Connection([b"{", b"}"])
    receive = connection.receive

    async def broken():
        return await receive() if len(connection.pieces) == 2 else {"type": "http.disconnect"}

    connection.receive = broken
    asyncio.run(connection.run(client.app))
    assert (connection.sent, caplog.text) == ([], "")
    assert 'ppl_requests_total{path="/v1/chat/completions",status="499"} 1.0' in client.get("/metrics").text


def test_all_bodies_together_are_bounded(serve):
    client = serve(caps=Caps(body_mib=1.0))
    bodies = client.app.state.serving.bodies
    bodies.num_bytes = 4 * 2**20  # of others
    refused = client.post("/v1/chat/completions", json=chat())
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    bodies.num_bytes = 0
    assert client.post("/v1/chat/completions", json=chat()).status_code == 200
    assert bodies.num_bytes == 0


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
def test_a_page_of_another_site_can_ask_nothing(client, kind):
    """Browsers send these without asking the server first."""
    headers = {"content-type": kind}
    answered = client.post("/v1/chat/completions", content=json.dumps(chat()), headers=headers)
    assert answered.status_code == 415
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    answered = client.post("/v1/chat/completions", content=json.dumps(chat()), headers=headers)
    assert answered.status_code == 200
    assert "access-control-allow-origin" not in answered.headers
