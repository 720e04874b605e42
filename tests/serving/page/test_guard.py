"""What of Gradio's server can be reached."""

import asyncio
import json

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.testclient import TestClient

from ppl.serving.page.guard import Guard

JOIN, UPLOAD = "/gradio_api/queue/join", "/gradio_api/upload"


@pytest.fixture
def uploads(tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "clip.mp4").write_text("a clip")
    (tmp_path / "secret").write_text("a secret")
    (folder / "way-out").symlink_to(tmp_path / "secret")
    return folder


@pytest.fixture
def client(uploads):
    async def echo(scope, receive, send):
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message.get("more_body"):
                break
        await PlainTextResponse(f"reached {body.decode()}")(scope, receive, send)

    return TestClient(Starlette(routes=[Mount("/", Guard(echo, uploads, 1000, 2**20 + 3000))]))


async def unreachable(*_):
    pytest.fail("called")


def value(path):
    return {"data": ["text", {"path": str(path), "meta": {"_type": "gradio.FileData"}}], "fn_index": 0}


@pytest.mark.parametrize(
    "path", ["/", "/config", "/assets/a.js", "/gradio_api/upload", "/gradio_api/heartbeat/abc", f"{JOIN}?"]
)
def test_what_the_page_needs_is_open(client, path):
    assert client.post(path, json={"data": []}).text == 'reached {"data":[]}'


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=http://127.0.0.1/",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/run/predict",
        "/gradio_api/call/open",
        "/gradio_api/stream/a/b/c/playlist.m3u8",
        "/gradio_api/deep_link",
        "/monitoring",
        "/login",
        "/assets",
        "/assets/../gradio_api/run/predict",
    ],
)
def test_everything_else_is_closed(client, path):
    response = client.get(path)
    assert response.status_code == 404
    assert "there is nothing here" in response.json()["error"]["message"]


def test_uploaded_files_are_let_through(client, uploads):
    sent = value(uploads / "clip.mp4")
    assert json.loads(client.post(JOIN, json=sent).text.removeprefix("reached ")) == sent


@pytest.mark.parametrize(
    "path", ["../secret", "way-out", "/etc/passwd", "http://127.0.0.1:9/", "https://example.org/a.mp4", "a\0b", 7, None]
)
def test_other_files_and_urls_are_not(client, uploads, path):
    told = str(uploads / path) if isinstance(path, str) and path in ("../secret", "way-out") else path
    sent = {"data": [{"deep": [{"path": told, "meta": {"_type": "gradio.FileData"}}]}]}
    assert client.post(JOIN, json=sent).status_code == 400


def test_an_escaped_key_is_the_same_key(client):
    body = b'{"data": [{"p\\u0061th": "/etc/passwd", "meta": {"_type": "gradio.FileD\\u0061ta"}}]}'
    assert client.post(JOIN, content=body).status_code == 400


@pytest.mark.parametrize("path", [JOIN, "/gradio_api/reset", "/gradio_api/cancel"])
@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b'"' + b"a" * 2**20 + b'"'], ids=["broken", "deep", "large"])
def test_what_is_no_value_of_the_page_is_refused(client, path, body):
    assert client.post(path, content=body).status_code == 400


def test_an_upload_is_bounded_however_many_files_it_has(client):
    assert client.post(UPLOAD, content=b"x" * (2**20 + 1000)).status_code == 200
    told = client.post(UPLOAD, content=b"x" * (2**20 + 1001))
    assert (told.status_code, told.json()["error"]["message"]) == (
        413,
        "got an upload of over 1000 bytes, or of unknown length; send a smaller file",
    )
    assert client.post(UPLOAD, content=iter([b"x"])).status_code == 413, "its length is not told"


def test_all_uploads_together_are_bounded(client, uploads):
    (uploads / "deep").mkdir()
    (uploads / "deep" / "large").write_bytes(bytes(2**20))
    assert client.post(UPLOAD, content=b"x" * 2000).status_code == 200
    assert client.post(UPLOAD, content=b"x" * 4000).status_code == 429


def test_a_body_in_pieces_arrives_whole_and_then_what_comes_after(uploads):
    got = []

    async def app(scope, receive, send):
        got.extend([await receive(), await receive()])

    messages = [
        {"type": "http.request", "body": b'{"a":', "more_body": True},
        {"type": "http.request", "body": b" 1}", "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0)

    async def send(message):
        got.append(message)

    guard = Guard(app, uploads, 0, 0)
    asyncio.run(guard({"type": "http", "method": "POST", "path": JOIN}, receive, send))
    assert got == [{"type": "http.request", "body": b'{"a": 1}', "more_body": False}, {"type": "http.disconnect"}]


def test_a_body_that_is_broken_off_is_refused(uploads):
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    guard = Guard(unreachable, uploads, 0, 0)
    asyncio.run(guard({"type": "http", "method": "POST", "path": JOIN}, receive, send))
    assert sent[0]["status"] == 400


def test_what_is_not_http_is_left_alone(uploads):
    asyncio.run(Guard(unreachable, uploads, 0, 0)({"type": "websocket", "path": "/"}, unreachable, unreachable))
