import base64

import pytest
import torch
from starlette.testclient import TestClient

from ppl.datamodules.processing import Processor
from ppl.modules.poolers.average import AveragePooler
from ppl.serving.engine import Engine
from ppl.serving.http.app import create_app
from ppl.serving.http.settings import Settings
from ppl.serving.line import Limits
from tests.exporting.tiny_runs import fit
from tests.modules.tiny import guided_model

QUESTION = "what colour is the square ?"


def data_url(content, kind="video/mp4"):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def about(url, question=QUESTION, kind="video", **fields):
    """The body of a request about one medium."""
    medium = {"type": f"{kind}_url", f"{kind}_url": {"url": url}}
    content = [medium, {"type": "text", "text": question}]
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}


def chat(text="what is it ?", **fields):
    """The body of a request about nothing to see."""
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 4, **fields}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)  # other tests have drawn before, and some models have nothing to say
    return guided_model()


@pytest.fixture(scope="module")
def processor(model):
    return Processor(model.input_spec, num_frames=4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model that has learnt next to nothing, but with weights by which it talks a lot, of other things each time."""
    module, path = fit(None, tmp_path_factory.mktemp("run"), lora=())
    saved = torch.load(path, weights_only=True)
    torch.manual_seed(0)
    for name, weight in saved["state_dict"].items():
        if "language_model.layers" in name and weight.ndim > 1:
            weight.mul_(10)
        elif "embed_tokens" in name:
            weight.mul_(50)
        elif "lm_head" in name:
            weight.normal_()[module.model.backbone.tokenizer.eos_token_id] = 0
    torch.save(saved, path)
    return path


@pytest.fixture
def serve(model, processor, tmp_path, monkeypatch):
    """Start applications within this process; they end with the test."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    started = []

    def start(limits=Limits(), **settings):  # noqa: B008
        engine = Engine(model, processor, {"average": AveragePooler(kernel_size=(2, 3, 3))}, limits=limits)
        client = TestClient(create_app(engine, Settings("tiny", **settings)), raise_server_exceptions=False)
        started.append((engine, client))
        return client.__enter__()

    yield start
    for engine, client in started:
        client.__exit__(None, None, None)
        engine.close(0.0)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.fixture
def client(serve):
    return serve()


@pytest.fixture
def ask(client):
    """Send a body to the default application and give its JSON, which has the status wanted."""

    def ask(body, status=200):
        answered = client.post("/v1/chat/completions", json=body)
        assert answered.status_code == status, answered.text
        return answered.json()

    return ask


@pytest.fixture
def url(clip):
    return data_url(clip.read_bytes())
