import subprocess

from lightning import Trainer

from ppl.callbacks.run_record import describe
from ppl.callbacks.source import source


def test_the_source_is_the_checkout_s_or_none(monkeypatch, tmp_path):
    def git(*words):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr("ppl.callbacks.source._CHECKOUT", tmp_path)
    assert source() == {"commit": None, "changed": None}
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-m", "a")
    found = source()
    assert len(found["commit"]) == 40
    assert found["changed"] == []
    (tmp_path / "a").write_text("2")
    (tmp_path / "b").write_text("")
    assert source() == {"commit": found["commit"], "changed": ["a", "b"]}


def test_a_checkout_that_git_cannot_tell_of_is_unknown_in_words(monkeypatch, tmp_path):
    monkeypatch.setattr("ppl.callbacks.source._CHECKOUT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))  # if the tests' folder is in a checkout
    monkeypatch.setenv("LC_ALL", "C")
    (tmp_path / ".git").mkdir()  # and nothing in it
    found = source()
    assert found.keys() == {"commit", "changed", "unknown"}
    assert "not a git repository" in found["unknown"]
    monkeypatch.setenv("PATH", "")
    assert source() == {"commit": None, "changed": None, "unknown": "there is no program git to ask"}


def test_a_run_is_described_where_there_is_no_git(monkeypatch, tmp_path):
    monkeypatch.setattr("ppl.callbacks.source._CHECKOUT", tmp_path)
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    described = describe(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), "fit", {})
    assert described["source"]["unknown"] == "there is no program git to ask"
