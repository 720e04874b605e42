"""``ppl score`` and ``ppl compare`` as they are called."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppl.cli import main
from tests.evaluation.made_up_runs import Choice, Open, rows_of, write_rows
from tests.evaluation.misbehaving_judge import judge_server, replying, status

WITHOUT_TORCH = """
import socket, sys
for name in ("torch", "lightning", "transformers", "torchmetrics", "torchvision"):
    sys.modules[name] = None  # importing it fails
socket.socket.connect = None  # and so does any connection
from ppl.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    for name in ("PPL_JUDGE_MODEL", "PPL_JUDGE_URL", "PPL_JUDGE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)


def fails(*words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return str(ended.value)


def test_score_and_compare_need_no_torch_and_no_network(tmp_path):
    rows = rows_of(["A", "B", "A", "?"])
    write_rows(tmp_path / "run/rows-0.jsonl", rows[::2])
    write_rows(tmp_path / "run/rows-1.jsonl", rows[1::2])
    write_rows(tmp_path / "other.jsonl", rows_of(["A"] * 4))
    for words in (["score", "run"], ["compare", "run", "other.jsonl"]):
        command = [sys.executable, "-c", WITHOUT_TORCH, *words, "--import", Choice.__module__]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=_environment())
        assert done.returncode == 0, done.stderr
        assert "| accuracy | overall | 50.00 | " in done.stdout


def _environment():
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def test_every_form_is_written_where_it_is_told(tmp_path, capsys):
    write_rows(tmp_path / "run/rows-0.jsonl", rows_of(["A", "B"], model="m"))
    write_rows(tmp_path / "other.jsonl", rows_of(["A", "A"], model="n"))
    files = ["--json", "s.json", "--csv", "s.csv", "--markdown", "s.md", "--details", "d.jsonl"]
    main(["score", "run", "other.jsonl", *files])
    assert capsys.readouterr().out == ""
    assert [report["model"] for report in json.loads((tmp_path / "s.json").read_text())] == ["m", "n"]
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 1 + 2 * 3
    assert (tmp_path / "s.md").read_text().count("## made-up") == 2
    assert len((tmp_path / "d.jsonl").read_text().splitlines()) == 4
    main(["score", "run", "--csv", "-"])
    assert capsys.readouterr().out.startswith("benchmark,protocol,model,judge,judge_prompts,metric,")
    main(["compare", "run", "other.jsonl", "--json", "-"])
    assert json.loads(capsys.readouterr().out)["benchmark"] == "made-up"


def test_too_low_a_coverage_fails_after_the_scores_are_written(tmp_path, capsys):
    write_rows(tmp_path / "rows-0.jsonl", rows_of(["A", "B"], total=4))
    main(["score", ".", "--expect-coverage", "0.5"])
    assert "got 2 of 4 questions of made-up answered, a coverage of 0.500, expected 0.9" in fails(
        "score", ".", "--expect-coverage", "0.9"
    )
    assert "| accuracy |" in capsys.readouterr().out


def test_a_submission_is_written_for_a_test_split_alone(tmp_path):
    write_rows(tmp_path / "test.jsonl", rows_of(["A", "B"], answers=None))
    write_rows(tmp_path / "val.jsonl", rows_of(["A", "B"]))
    main(["score", "test.jsonl", "--submission", "to/send"])
    assert json.loads((tmp_path / "to/send/made_up.json").read_text()) == {"0": "A", "1": "B"}
    assert "got --submission, and of made-up none to be written" in fails("score", "val.jsonl", "--submission", "x")


def test_no_answers_are_an_error(tmp_path):
    assert "expected rows-*.jsonl of `ppl predict`" in fails("score", str(tmp_path))
    assert "which holds no answers" in fails("score", "missing.jsonl")
    for written in ("", '{"benchmark": "made'):  # killed before its first line was whole
        (tmp_path / "rows-0.jsonl").write_text(written)
        assert "without a whole line, expected answers" in fails("score", str(tmp_path), "--expect-coverage", "0.5")


def test_a_dry_run_says_what_a_judge_would_be_sent_and_sends_nothing(tmp_path, capsys, monkeypatch):
    """Of each of two prompts: 6 bytes are 2 tokens, and 7 are 2."""
    write_rows(tmp_path / "rows-0.jsonl", rows_of(["x", "y"], Open(), answers="x"))
    with judge_server() as server:
        monkeypatch.setenv("PPL_JUDGE_MODEL", "m")
        monkeypatch.setenv("PPL_JUDGE_URL", server.url)
        main(["score", ".", "--dry-run", "--judge-prices", "500000", "1000000"])
        told = capsys.readouterr()
        assert told.out == ""
        assert "judge m: 2 requests, 0 of them known, 2 to send; about 8 tokens of prompts (1 for 4 bytes)" in told.err
        assert "at most 128 of replies; cost about 132.00 at most" in told.err
        assert server.received == []
        main(["score", "."])
        assert len(server.received) == 2
        capsys.readouterr()
        main(["score", ".", "--dry-run"])
        assert "2 requests, 2 of them known, 0 to send; about 0 tokens" in capsys.readouterr().err


def test_a_judge_s_name_and_prompts_stand_beside_its_scores(tmp_path, capsys, monkeypatch):
    write_rows(tmp_path / "rows-0.jsonl", rows_of(["x", "y", "z"], Open(), answers="x"))
    monkeypatch.setenv("MY_KEY", "secret")
    behaviours = [replying("```python\n{'pred': 'yes', 'score': 5}\n```"), replying("No idea."), status(400)]
    with judge_server(*behaviours) as server:
        words = ["--judge-model", "m", "--judge-url", server.url, "--judge-key-from", "MY_KEY"]
        main(["score", ".", *words, "--judge-concurrency", "1", "--judge-cache", "kept.jsonl", "--json", "s.json"])
    assert server.headers[0]["Authorization"] == "Bearer secret"
    report = json.loads((tmp_path / "s.json").read_text())[0]
    assert report["judge"].keys() == {"model", "temperature", "prompts"}
    assert (report["unjudged"], report["malformed"]) == (1, 1)
    scores = {each["metric"]: each for each in report["scores"] if each["group"] == "overall"}
    assert (scores["judged"]["value"], scores["judged"]["size"]) == (100.0, 1)
    assert "no reply to 1 requests (1 × got status 400 ({}))" in capsys.readouterr().err
    assert "secret" not in (tmp_path / "kept.jsonl").read_text() + (tmp_path / "s.json").read_text()


def test_a_benchmark_that_needs_a_judge_says_so_and_one_without_an_address_is_refused(tmp_path, capsys):
    write_rows(tmp_path / "rows-0.jsonl", rows_of(["x", "y"], Open(), answers="x"))
    main(["score", "."])
    told = capsys.readouterr()
    assert "2 requests need a judge, and none is named (--judge-model): their marks are left out" in told.err
    assert "| f1 | overall | 50.00 |" in told.out
    assert "| judged | overall | – |" in told.out
    assert "got judge m without an address, expected --judge-url or $PPL_JUDGE_URL" in fails(
        "score", ".", "--judge-model", "m"
    )


def test_a_module_of_one_s_own_that_cannot_be_imported_is_told(tmp_path):
    write_rows(tmp_path / "rows-0.jsonl", rows_of(["A"]))
    told = fails("score", ".", "--import", "no_such_module_of_mine")
    assert "got --import no_such_module_of_mine, expected a module that can be imported (No module named" in told
    assert told.endswith("put its folder on PYTHONPATH")


def test_help_names_the_environment(capsys):
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in ("PPL_JUDGE_MODEL", "PPL_JUDGE_URL", "PPL_JUDGE_KEY", "--dry-run"))
