import subprocess

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
