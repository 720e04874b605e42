"""From the options of `ppl serve` to what is served, without serving it."""

import subprocess
import sys

import pytest

from ppl.cli import build_parser, main
from ppl.modules.poolers.average import AveragePooler
from ppl.serving.engine import Engine
from ppl.serving.http import launch
from ppl.serving.http.server import listen
from ppl.serving.http.settings import Caps, Settings
from ppl.serving.launch import Opened
from tests.modules.tiny import ROOT

AVERAGE = f"{ROOT}/recipes/parts/poolers/average.yaml"


def options(*words):
    return build_parser().parse_args(["serve", *words])


def test_by_default_only_this_machine_is_served_and_nothing_fetched(monkeypatch):
    monkeypatch.delenv("PPL_API_KEY", raising=False)
    given = options("--checkpoint=runs/exported/")
    assert given.host == "127.0.0.1"
    assert launch.settings_of(given) == Settings("exported")
    assert launch.limits_of(given).max_waiting == 64
    assert launch.keeping_of(given).memory_gib == 2.0


def test_every_option_arrives(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    given = options(
        *("--name=m", f"--media-root={tmp_path}", "--allow-remote", "--api-key-env=MY_KEY", "--max-body-mib=1"),
        *("--max-media=2", "--max-megapixels=3", "--max-video-seconds=4", "--max-frames=5", "--max-tokens=6"),
        *("--max-seconds=7", "--uploads-gib=8", "--upload-minutes=9", "--max-waiting=10", "--max-batch=11"),
        *("--keep-gib=12", "--keep-minutes=13"),
    )
    caps = Caps(1.0, 2, 3.0, 4.0, 5, 6, seconds=7.0)
    assert launch.settings_of(given) == Settings("m", tmp_path, True, "secret", caps, 8.0, 9.0)
    assert (launch.limits_of(given).max_waiting, launch.limits_of(given).max_rows) == (10, 11)
    assert (launch.keeping_of(given).memory_gib, launch.keeping_of(given).seconds) == (12.0, 780.0)


def test_a_key_that_is_not_set_is_told(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ValueError, match="got --api-key-env=MY_KEY, but no such variable is set; export it"):
        launch.settings_of(options("--api-key-env=MY_KEY"))


def test_poolers_are_those_named_or_all_that_fit(model, processor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = Opened(model, processor, "m")
    named = launch.poolers_of([f"one={AVERAGE}", "two=average"], opened)
    assert [type(pooler) for pooler in named.values()] == [AveragePooler, AveragePooler]
    fitting = launch.poolers_of([], opened)
    assert {"average", "weighted", "none"} <= fitting.keys()
    assert "token_merging" not in fitting  # 2048 tokens are more than there are patches
    for words in ("average", f"={AVERAGE}", f"a:b={AVERAGE}"):
        with pytest.raises(ValueError, match=f"got --pooler={words}, expected NAME=FILE"):
            launch.poolers_of([words], opened)


def test_the_greeting_tells_the_url_the_name_and_the_limits(model, processor, tmp_path):
    engine = Engine(model, processor, {"average": AveragePooler()})
    engine.close(0.0)
    told = launch.greeting(Settings("m", tmp_path, True, "secret"), engine, "::1", 80)
    for words in ("serving m at http://[::1]:80/v1", "poolers: average", "file:// below", "http(s)://", "64 MiB"):
        assert words in told
    assert "for clients with the key" in told
    assert "secret" not in told


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(monkeypatch):
    monkeypatch.setattr(launch, "open_chosen", lambda *_, **__: pytest.fail("loaded"))
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=f"ppl serve: got port {port} of 127.0.0.1, which is taken"):
            main(["serve", f"--port={port}"])


def test_a_media_root_that_is_none_is_told():
    with pytest.raises(SystemExit, match="ppl serve: got media root 'nowhere', expected a folder"):
        main(["serve", "--media-root=nowhere"])


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    told = capsys.readouterr().out
    for words in (
        "from openai import OpenAI",
        "--media-root FOLDER",
        "default: 127.0.0.1",
        "token_budget",
        "status 429",
    ):
        assert words in told


def test_without_the_extra_it_is_named():
    code = "import sys; sys.modules['uvicorn'] = None; from ppl.cli import main; main(['serve'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert (
        done.stderr == "ppl serve: got a server without uvicorn, expected the extra serve: pip install 'ppl[serve]'\n"
    )
