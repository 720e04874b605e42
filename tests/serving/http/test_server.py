"""`ppl serve` as a process of its own, asked by OpenAI's client: a first that is killed, then a second that ends."""

import asyncio
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest
import uvicorn

from ppl.modules.generation import Generation
from ppl.serving.http.server import _Server, listen
from ppl.serving.launch import open_model
from ppl.serving.session import ChatSession
from tests.docs.blocks import read
from tests.serving.http.conftest import QUESTION, data_url
from tests.serving.http.process import Server

QUESTIONS = [
    f"{start} {thing} ?" for start in ("what colour is the", "which way does the") for thing in ("square", "ring")
]
KEY = "a key"
LONG = 400


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def first(checkpoint, temporary, clip):
    """A server whose temporary folder holds what a killed one left."""
    pooler = "--pooler=average=recipes/parts/poolers/average.yaml"
    server = Server(checkpoint, temporary, pooler, f"--media-root={clip.parent}")
    yield server.wait()
    server.end()


@pytest.fixture(scope="module")
def second(first, checkpoint, temporary):
    """Another, after the first was killed in the middle of its work."""
    client = first.client()
    client.files.create(file=("left.mp4", b"behind"), purpose="user_data")
    first.end()
    [left] = temporary.glob("ppl-serve-*")
    assert [path.read_bytes() for path in left.iterdir()] == [b"behind"]
    server = Server(checkpoint, temporary, "--max-waiting=2", "--drain-seconds=60", PPL_API_KEY=KEY)
    yield server.wait()
    server.end()


@pytest.fixture(scope="module")
def client(first):
    with first.client() as client:
        yield client


@pytest.fixture(scope="module")
def expected(checkpoint, clip):
    """What the session answers, by question."""
    opened = open_model(str(checkpoint), device="cpu", num_frames=4)
    answers = {}
    for question in QUESTIONS:
        session = ChatSession(opened.model, opened.processor, clip)
        answers[question] = "".join(session.ask(question, Generation(max_new_tokens=12)))
    assert len(set(answers.values())) == len(QUESTIONS)
    return answers


def messages(url, question=QUESTION):
    medium = {"type": "video_url", "video_url": {"url": url}}
    return [{"role": "user", "content": [medium, {"type": "text", "text": question}]}]


def ask(client, url, question=QUESTION, **fields):
    return client.chat.completions.create(
        **{"model": "tiny", "max_tokens": 12, **fields}, messages=messages(url, question)
    )


def text(completion):
    return completion.choices[0].message.content


def open_questions(server, **options):
    told = httpx2.get(f"{server.url}/metrics", timeout=60, **options).text
    return float(re.search(r"^ppl_queue_length (.*)$", told, re.MULTILINE)[1])


def until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it never came to pass")


def test_it_says_where_it_is_and_what_it_takes(first):
    told = "".join(first.out)
    assert f"serving tiny at {first.url}/v1" in told
    assert "poolers: average; ask for model=tiny:POOLER" in told
    assert "answers: 1024 tokens and 120 s at most, 8 at once, 64 in line; for everybody who can connect" in told


def test_the_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["tiny", "tiny:average"]
    assert client.models.retrieve("tiny:average").owned_by == "ppl"


def test_answers_are_the_session_s(client, clip, expected):
    for question, answer in expected.items():
        assert text(ask(client, data_url(clip.read_bytes()), question)) == answer


def test_streamed_pieces_join_to_them(client, clip, expected):
    for question, answer in expected.items():
        fields = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = list(ask(client, f"file://{clip}", question, **fields))
        pieces = [chunk.choices[0] for chunk in chunks if chunk.choices]
        assert pieces[0].delta.role == "assistant"
        assert "".join(piece.delta.content or "" for piece in pieces) == answer
        assert len(pieces) > 10
        assert pieces[-1].finish_reason == "length"
        assert chunks[-1].usage.completion_tokens == 12
        assert chunks[-1].usage.prompt_tokens_details.visual_tokens > 0
        assert set(chunks[-2].ppl["milliseconds"]) >= {"decode", "encode", "pool", "prefill"}


def test_an_upload_is_asked_about(client, clip, expected):
    with clip.open("rb") as file:
        upload = client.files.create(file=file, purpose="user_data")
    assert client.files.retrieve(upload.id).filename == "clip.mp4"
    assert text(ask(client, upload.id)) == expected[QUESTION]
    assert client.files.delete(upload.id).deleted
    with pytest.raises(openai.NotFoundError, match="upload it again"):
        ask(client, upload.id)


def test_further_fields_choose_how_to_pool(client, clip):
    def visual(**fields):
        usage = ask(client, f"file://{clip}", **fields).usage
        return usage.prompt_tokens_details.visual_tokens

    pooled = visual(extra_body={"pooler": "average"})
    assert pooled == visual(model="tiny:average")
    assert visual(extra_body={"token_budget": 2, "policy": "union"}) <= 2 < pooled


@pytest.mark.parametrize("at_once", [1, 8, 32])
def test_many_at_once_get_what_one_gets(client, clip, expected, at_once):
    asked = QUESTIONS * 8
    url = f"file://{clip}"
    with ThreadPoolExecutor(at_once) as threads:
        answers = list(threads.map(lambda question: text(ask(client, url, question)), asked[: max(4, at_once)]))
    assert answers == [expected[question] for question in asked[: max(4, at_once)]]


def test_the_documentation_s_client_runs(first, clip, monkeypatch, capsys):
    [block] = [block for block in read("docs/serve.md")[0] if block.language == "python"]
    monkeypatch.setattr("sys.argv", ["ask.py", str(clip), QUESTION])
    program = block.text.replace("http://127.0.0.1:8000", first.url)
    assert program != block.text
    exec(compile(program, block.place, "exec"), {"__name__": "__main__"})
    answer, _, tokens = capsys.readouterr().out.rstrip().rpartition("\n")
    assert answer
    assert 0 < int(tokens.removesuffix(" visual tokens")) <= 256


def test_a_question_is_refused_as_the_client_expects(client, clip):
    for error, said, fields in [
        (openai.NotFoundError, "expected one of tiny", {"model": "other"}),
        (openai.BadRequestError, "got n=2, which this server does not offer", {"n": 2}),
        (openai.BadRequestError, "got pooler 'max'", {"extra_body": {"pooler": "max"}}),
    ]:
        with pytest.raises(error, match=said):
            ask(client, f"file://{clip}", **fields)
    for url in ("file:///etc/passwd", f"file://{clip.parent}/../x", "data:;base64,AAAA", "http://127.0.0.1/"):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, url)
        assert "/etc" not in str(caught.value)
        assert caught.value.type == "invalid_request_error"


def test_a_stream_that_is_closed_frees_its_slot(first, client, clip):
    for _ in range(3):
        stream = ask(client, f"file://{clip}", stream=True, max_tokens=LONG)
        next(stream)
        stream.close()
    until(lambda: open_questions(first) == 0)


def test_garbage_does_no_harm(first):
    address = first.url.removeprefix("http://").split(":")
    for garbage in (
        b"\x00" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n{",
    ):
        with socket.create_connection((address[0], int(address[1])), timeout=60) as connection:
            connection.sendall(garbage)
    url = f"{first.url}/v1/chat/completions"
    options = {"headers": {"content-type": "application/json"}, "timeout": 60}
    assert httpx2.post(url, content=b"{", **options).status_code == 400
    large = httpx2.post(url, content=b"x" * (65 * 2**20), **options)
    assert large.status_code == 413
    until(lambda: open_questions(first) == 0)
    assert httpx2.get(f"{first.url}/health", timeout=60).status_code == 200


def test_a_server_that_was_killed_leaves_nothing_to_the_next(second, temporary):
    [mine] = temporary.glob("ppl-serve-*")
    assert list(mine.iterdir()) == []


def test_only_the_key_opens(second):
    with pytest.raises(openai.AuthenticationError):
        second.client().models.list()
    models = {model.id for model in second.client(api_key=KEY).models.list()}
    assert {"tiny", "tiny:average", "tiny:weighted"} <= models


def test_when_the_line_is_full_the_client_is_told_to_wait(second):
    client = second.client(api_key=KEY)
    words = [{"role": "user", "content": "what is it ?"}]
    key = {"authorization": f"Bearer {KEY}"}
    with ThreadPoolExecutor(1) as thread:
        first = client.chat.completions.create(model="tiny", messages=words, max_tokens=LONG, stream=True)
        waits = thread.submit(client.chat.completions.create, model="tiny", messages=words, max_tokens=4)
        until(lambda: open_questions(second, headers=key) == 2)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="tiny", messages=words)
        assert caught.value.response.headers["retry-after"] == "1"
        first.close()
        assert text(waits.result())
    until(lambda: open_questions(second, headers=key) == 0)


def test_sigterm_lets_answers_out_and_takes_no_more(second, temporary):
    client = second.client(api_key=KEY)
    words = [{"role": "user", "content": "what is it ?"}]
    whole = client.chat.completions.create(model="tiny", messages=words, max_tokens=LONG)
    stream = client.chat.completions.create(model="tiny", messages=words, max_tokens=LONG, stream=True)
    next(stream)
    with ThreadPoolExecutor(1) as thread:  # sampled answers and others are not given together: one waits in line
        sampled = {"max_tokens": LONG, "temperature": 1.0}
        waits = thread.submit(client.chat.completions.create, model="tiny", messages=words, **sampled)
        until(lambda: open_questions(second, headers={"authorization": f"Bearer {KEY}"}) == 2)
        second.process.send_signal(signal.SIGTERM)
        until(lambda: httpx2.get(f"{second.url}/health", timeout=60).status_code == 503)
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="tiny", messages=words)
        assert (caught.value.status_code, caught.value.response.headers["retry-after"]) == (503, "5")
        rest = [chunk.choices[0] for chunk in stream]
        assert text(waits.result())
    assert "".join(piece.delta.content or "" for piece in rest) == text(whole)
    assert rest[-1].finish_reason == whole.choices[0].finish_reason
    assert second.end(signal.SIGCONT) == 0
    assert "all answers are out" in "".join(second.out)
    assert second.err == []
    assert list(temporary.iterdir()) == []


def test_a_second_signal_does_not_wait_for_what_the_first_lets_out(serve, monkeypatch):
    """The loop ends only with its threads, and so with the one that drains."""
    drained, told = threading.Event(), []

    def close(seconds):
        told.append(seconds)
        if seconds == 0.0:
            drained.set()
        assert drained.wait(60)

    app = serve().app
    server = _Server(uvicorn.Config(app), app.state.serving, 30.0)

    async def twice():
        for is_over in (False, True):
            server.handle_exit(signal.SIGTERM, None)
            assert await server.on_tick(1) == is_over

    with monkeypatch.context() as patch:
        patch.setattr(app.state.serving.engine, "close", close)
        asyncio.run(twice())
    assert told == [30.0, 0.0]


def test_a_port_that_is_taken_is_told():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"got port {port} of 127.0.0.1, which is taken; stop what listens there"):
            listen("127.0.0.1", port)
    with pytest.raises(ValueError, match="where nothing can listen"):
        listen("192.0.2.1", 0)
    with pytest.raises(ValueError, match="where nothing can listen"):
        listen("no such host", 0)
