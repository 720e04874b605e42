"""Two thousand requests, good, bad and broken off, cost the server nothing that stays."""

import contextlib
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import openai
import pytest

from tests.serving.http.conftest import QUESTION, about, data_url
from tests.serving.http.process import Server

NUM, WARM, NUM_CLIENTS = 2000, 500, 8
MOST_MIB = 48


@pytest.fixture
def server(checkpoint, tmp_path, clip):
    options = ["--pooler=average=average", f"--media-root={clip.parent}", "--keep-gib=0.02"]  # which is full early
    server = Server(checkpoint, tmp_path, *options).wait()
    yield server
    server.end()


def good(client, clip, number):
    budget = {"extra_body": {"token_budget": 2 + number % 5, "pooler": "average"}}
    url = data_url(clip.read_bytes()) if number % 2 else f"file://{clip}"
    messages = about(url, f"{QUESTION} {number}")["messages"]
    assert client.chat.completions.create(model="tiny", messages=messages, max_tokens=4, **budget).choices


def streamed(client, clip, number):
    messages = about(f"file://{clip}")["messages"]
    chunks = list(client.chat.completions.create(model="tiny", messages=messages, max_tokens=4, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"


def cancelled(client, clip, number):
    messages = [{"role": "user", "content": "what is it ?"}]
    stream = client.chat.completions.create(model="tiny", messages=messages, max_tokens=400, stream=True)
    next(stream)
    stream.close()


def uploaded(client, clip, number):
    file = client.files.create(file=("a.mp4", clip.read_bytes() + bytes(number)), purpose="user_data")
    messages = about(file.id)["messages"]
    assert client.chat.completions.create(model="tiny", messages=messages, max_tokens=2).choices
    client.files.delete(file.id)


def refused(client, clip, number):
    half = clip.read_bytes()[: 40 * (number % 900)]
    urls = ["file:///etc/passwd", data_url(bytes(number)), data_url(half), "file-0", "x"]
    with contextlib.suppress(openai.BadRequestError, openai.NotFoundError):
        client.chat.completions.create(model="tiny", messages=about(urls[number % 5])["messages"], max_tokens=2)
        raise AssertionError


def malformed(client, clip, number):
    bodies = [b"{", b"[" * 10_000, b'{"model": 3}', b"\xff" * 1000]
    headers = {"content-type": "application/json"}
    url = f"{client.base_url}chat/completions"
    assert httpx2.post(url, content=bodies[number % 4], headers=headers).status_code == 400


def broken(client, clip, number):
    """The client goes in the middle of its request."""
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        connection.sendall(head + b"content-length: 10000\r\n\r\n" + b"x" * number)


KINDS = (good, streamed, refused, malformed, good, cancelled, uploaded, broken)


def cost(server):
    """Memory in MiB, files and threads of the process, its own and those that decode."""
    folder = Path("/proc") / str(server.process.pid)
    told = (folder / "status").read_text()
    memory, threads = (int(re.search(rf"^{name}:\s+(\d+)", told, re.MULTILINE)[1]) for name in ("VmRSS", "Threads"))
    return memory / 1024, len(list((folder / "fd").iterdir())), threads


def settled(server):
    """What the server costs when nobody asks."""
    for _ in range(100):
        time.sleep(0.2)
        told = httpx2.get(f"{server.url}/metrics").text
        if "\nppl_queue_length 0.0" in told and "\nppl_uploads_bytes 0.0" in told:
            time.sleep(6)  # connections that are kept alive end
            return cost(server)
    raise AssertionError(told)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_is_left_of_two_thousand_requests(server, clip, tmp_path, capsys):
    def ask(number):
        with server.client() as client:
            KINDS[number % len(KINDS)](client, clip, number)

    with ThreadPoolExecutor(NUM_CLIENTS) as threads:
        list(threads.map(ask, range(WARM)))
        before = settled(server)
        start = time.perf_counter()
        list(threads.map(ask, range(WARM, NUM)))
        seconds = time.perf_counter() - start
    after = settled(server)
    with capsys.disabled():
        print(f"\nMiB, files, threads after {WARM} and {NUM} requests: {before}, {after}; {seconds:.0f} s between")
    assert after[0] < before[0] + MOST_MIB
    assert after[1] == before[1]
    assert after[2] <= before[2] + NUM_CLIENTS  # the threads that wait for answers are as many as were needed at once
    [folder] = tmp_path.glob("ppl-serve-*")
    assert list(folder.iterdir()) == []
    assert httpx2.get(f"{server.url}/health").json() == {"status": "ok"}
    assert server.process.poll() is None
    assert server.err == []
