"""A server whose FFmpeg and Pillow crash or hang on some files: nobody but who sent them is the worse for it."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx2
import openai
import pytest
from PIL import Image

from tests.serving.http.conftest import about, data_url
from tests.serving.http.process import Server

PART = "messages.0.content.0"
SECONDS = 8
WILD = """
import ctypes, os, pathlib, signal
import av, PIL.Image

def wild(opens):
    def open_or_not(file, *args, **kwargs):
        end = b""
        if isinstance(file, (str, os.PathLike)) and pathlib.Path(file).is_file():
            end = pathlib.Path(file).read_bytes()[-5:]
        if end == b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if end == b"hangs":
            ctypes.PyDLL(None).sleep(100)  # in C, with Python's lock held
        return opens(file, *args, **kwargs)
    return open_or_not

av.open, PIL.Image.open = wild(av.open), wild(PIL.Image.open)
"""


@pytest.fixture(scope="module")
def server(checkpoint, tmp_path_factory):
    """A server that would end, or stand still, if it opened such a file itself."""
    folder = tmp_path_factory.mktemp("wild")
    (folder / "sitecustomize.py").write_text(WILD)
    server = Server(checkpoint, folder, f"--max-seconds={SECONDS}", PYTHONPATH=str(folder))
    yield server.wait()
    server.end()


@pytest.fixture
def send(server):
    """Ask about a medium; give what is wrong with it, or else what the answer is."""

    def send(content, kind="video"):
        body = about(data_url(content, f"{kind}/x"), kind=kind)
        try:
            with server.client() as client:
                return client.chat.completions.create(**body).choices[0].message.content
        except openai.BadRequestError as error:
            return error

    return send


@pytest.fixture(scope="module")
def media(clip):
    picture = BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(picture, "PNG")
    return {"video": clip.read_bytes(), "image": picture.getvalue()}


def children(server):
    """Processes of a server's, by their ids."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == server.process.pid:
            found.append(folder)
    return found


@pytest.mark.parametrize("kind", ["video", "image"])
def test_a_file_that_crashes_costs_its_client_an_error_and_the_next_is_answered(server, send, media, kind):
    answer = send(media[kind], kind)
    assert isinstance(answer, str)
    error = send(media[kind] + b"crash", kind)
    assert error.status_code == 400
    assert error.body["param"] == PART
    assert error.body["message"] == (
        f"got {PART}, which hung or crashed the process that looked into it, or took all of its memory; "
        "expected a whole mp4, webm, JPEG or PNG, say; convert it"
    )
    assert send(media[kind], kind) == answer
    assert any("died (signal SIGSEGV)" in line for line in server.err)


def test_others_are_answered_while_a_file_hangs_until_its_time_is_over(server, send, media):
    answer = send(media["video"])
    with ThreadPoolExecutor(4) as threads:
        start = time.monotonic()
        hangs = threads.submit(send, media["video"] + b"hangs")
        good = [threads.submit(send, media["video"]) for _ in range(3)]
        assert [each.result() for each in good] == [answer] * 3
        assert "which hung" in str(hangs.result())
    assert time.monotonic() - start >= SECONDS
    assert any(f"was stopped at timeout_s={SECONDS} s" in line for line in server.err)
    assert httpx2.get(f"{server.url}/health").json() == {"status": "ok"}


def test_no_process_outlives_the_server(server, send, media):
    send(media["video"])
    found = children(server)
    assert 1 <= len(found) <= 3
    assert server.end(signal.SIGTERM) == 0
    assert "all answers are out" in "".join(server.out)
    assert not [folder for folder in found if folder.exists()]
