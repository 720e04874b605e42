"""The other routes: models, health, metrics; the token, and what is not there."""

import json
import re
import time

import pytest
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocketDisconnect

from tests.serving.http.conftest import about, chat


def test_the_model_is_listed_under_each_of_its_poolers(client):
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [(model["id"], model["pooler"]) for model in listed["data"]] == [("tiny", None), ("tiny:average", "average")]
    for model in listed["data"]:
        assert model["object"] == "model"
        assert model["poolers"] == ["average"]
        assert client.get(f"/v1/models/{model['id']}").json() == model
    assert client.get("/v1/models/other").status_code == 404


def test_health(client):
    assert client.get("/health").json() == {"status": "ok"}


def test_nothing_is_generated_that_loads_from_elsewhere(client):
    for path in ("/docs", "/redoc", "/openapi.json", "/"):
        answered = client.get(path)
        assert answered.status_code == 404
        assert answered.json()["error"]["type"] == "invalid_request_error"


def test_another_method_is_told_in_openai_s_shape(client):
    answered = client.get("/v1/chat/completions")
    assert (answered.status_code, answered.json()["error"]["message"]) == (405, "Method Not Allowed")


def metrics(client):
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def answers(told):
    return sum(value for name, value in told.items() if name.startswith("ppl_answers_total"))


def test_metrics_tell_of_requests_stages_tokens_and_the_cache(client, ask, url):
    for body in (about(url), about(url), chat()):
        ask(body)
    ask(chat(model="other"), 404)
    client.get("/nowhere/1")
    client.get("/nowhere/2")
    until = time.monotonic() + 60
    while answers(told := metrics(client)) < 3 and time.monotonic() < until:
        time.sleep(0.01)  # an answer is out a moment before it is counted
    assert told['ppl_requests_total{path="/v1/chat/completions",status="200"}'] == 3
    assert told['ppl_requests_total{path="/v1/chat/completions",status="404"}'] == 1
    assert told['ppl_requests_total{path="other",status="404"}'] == 2
    for stage in ("decode", "queue", "encode", "pool", "prefill", "tokens"):
        assert told[f'ppl_stage_seconds_count{{stage="{stage}"}}'] == 3
    assert (told["ppl_cache_misses_total"], told["ppl_cache_hits_total"], told["ppl_cache_media"]) == (1, 1, 1)
    assert told["ppl_cache_bytes"] > 0
    assert (told["ppl_queue_length"], told["ppl_uploads_bytes"]) == (0, 0)
    usage = [ask(body)["usage"] for body in (about(url), about(url), chat())]
    visual = sum(each["prompt_tokens_details"]["visual_tokens"] for each in usage)
    assert told['ppl_tokens_total{kind="visual"}'] == visual > 0
    assert told['ppl_tokens_total{kind="answer"}'] == sum(each["completion_tokens"] for each in usage)


def test_two_servers_in_one_process_count_apart(serve):
    first, second = serve(), serve()
    first.post("/v1/chat/completions", json=chat())
    assert "/v1/chat/completions" not in second.get("/metrics").text
    assert "/v1/chat/completions" in first.get("/metrics").text


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}, {"Authorization": "secret"}]
)
def test_without_the_token_there_is_only_health(serve, headers):
    client = serve(token="secret")
    for method, path in [
        *(("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("POST", "/v1/files"), ("GET", "/metrics")),
        ("GET", "/nowhere"),
    ]:
        answered = client.request(method, path, headers=headers)
        assert answered.status_code == 401
        assert answered.headers["www-authenticate"] == "Bearer"
        assert "secret" not in answered.text
    assert client.get("/health", headers=headers).status_code == 200


def test_with_the_token_there_is_all(serve):
    client = serve(token="secret é")
    for kind in ("Bearer", "bearer"):
        headers = {"Authorization": f"{kind} secret é".encode()}
        assert client.get("/v1/models", headers=headers).status_code == 200
        assert client.post("/v1/chat/completions", headers=headers, json=chat()).status_code == 200


def test_what_is_mounted_is_behind_the_token_too(serve):
    client = serve(token="secret")
    client.app.mount("/page", PlainTextResponse("here"))
    assert client.get("/page/x").status_code == 401
    assert client.get("/page/x", headers={"Authorization": "Bearer secret"}).text == "here"
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/page/x"):
        pass


def test_every_answer_has_an_id_of_its_own(client):
    ids = [client.get(path).headers["x-request-id"] for path in ("/health", "/health", "/nowhere")]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(r"req-[0-9a-f]{16}", each) for each in ids)


def test_a_fault_in_what_is_mounted_is_not_told_either(client, caplog):
    async def broken(scope, receive, send):
        raise RuntimeError("the secret")

    client.app.mount("/page", broken)
    answered = client.get("/page/x")
    assert answered.status_code == 500
    assert json.loads(answered.text)["error"]["type"] == "server_error"
    assert "the secret" not in answered.text
    assert "the secret" in caplog.text
