"""Options of `ppl demo`, and what becomes of them before a page is served."""

import threading

import pytest

from ppl.cli import main
from ppl.serving.page import launch


@pytest.fixture
def served(monkeypatch, in_tmp_path, engine):
    """What a start leads to, with neither training nor serving."""
    told = {"opened": [], "trained": [], "mounted": []}
    monkeypatch.delenv("PPL_API_KEY", raising=False)
    monkeypatch.setattr(launch, "open_engine", lambda options, *rest: told.update(options=options) or engine)
    monkeypatch.setattr(launch, "embedded_model", lambda path, say: told["trained"].append(str(path)))
    monkeypatch.setattr(launch, "mount_page", told["mounted"].append)
    monkeypatch.setattr(launch, "run_server", lambda app, listener, seconds: app.state.serving.close())
    monkeypatch.setattr(launch.webbrowser, "open", told["opened"].append)

    def serve(*words):
        main(["demo", "--port=0", *words])
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.daemon and thread.name.startswith("Thread-"):
                thread.join(60)
        return told

    return serve


def test_without_a_checkpoint_it_is_the_embedded_model(served, capsys):
    told = served()
    assert told["trained"] == ["runs/demo/weighted/checkpoints/last.ckpt"]
    assert told["options"].checkpoint == told["trained"][0]
    assert len(told["mounted"]) == 1
    said = capsys.readouterr().out
    assert "serving embedded at" in said
    [url] = told["opened"]
    assert f"the page is at {url}" in said
    assert url.startswith("http://127.0.0.1:")


def test_with_a_checkpoint_nothing_is_trained(served, capsys):
    told = served("--checkpoint=exported", "--no-browser")
    assert told["trained"] == told["opened"] == []
    assert told["options"].checkpoint == "exported"
    assert "serving exported at" in capsys.readouterr().out


def test_a_page_for_every_network_is_opened_here(served):
    [url] = served("--host=0.0.0.0", "--checkpoint=exported")["opened"]
    assert url.startswith("http://127.0.0.1:")


def test_a_key_is_refused_as_no_browser_sends_it(served, monkeypatch):
    monkeypatch.setenv("PPL_API_KEY", "secret")
    with pytest.raises(SystemExit, match="ppl demo: got an API key with a page, which no browser sends; unset it"):
        served()
