"""`ppl data stats`: numbers counted by hand."""

from __future__ import annotations

import re

import pytest

from ppl.cli import main
from ppl.datamodules.decoders.pyav import PyAVDecoder
from ppl.inspection.media import Opener
from tests.inspection.conftest import llava


@pytest.fixture
def stats(capsys, monkeypatch):
    """Run it without a process that decodes; return exit code, and by title and row the cells of its tables."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(Opener, "_decoder", lambda self: PyAVDecoder())

    def run(*words):
        code, tables, title = 0, {}, ""
        try:
            main(["data", "stats", *words])
        except SystemExit as stopped:
            code = stopped.code
        out = capsys.readouterr().out
        for line in out.splitlines():
            row = re.match(r"│ (.*) │$", line)
            if row:
                name, *cells = re.split(r" +│ +", row[1])
                tables[title, name.strip()] = cells
            elif line[:1].isalpha():
                title = line.strip()
        return code, tables, out

    return run


def test_counts(stats, media, write):
    turns = [("human", "one ?"), ("gpt", "a b c"), ("human", "two ?"), ("gpt", "d")]
    first = write(
        [
            {"conversations": [{"from": who, "value": said} for who, said in turns], "video": "a.mp4"},
            llava(video="a.mp4", answer="e f"),
            llava(video="b.mp4", answer="g h i j"),
            llava(image="red.png", answer=""),
        ],
        "first.jsonl",
    )
    pair = {"prompt": "q", "chosen": "k", "rejected": "l m", "video": "frames"}
    second = write([pair, {"messages": [{"role": "user", "content": "q"}]}, llava(image="red.png")], "second.jsonl")
    code, tables, out = stats(first, second, "--media-root", str(media), "--workers", "1")
    assert code == 0, out
    assert tables["records", first] == ["0", "1", "0", "3", "4", "0"]
    assert tables["records", second] == ["1", "1", "0", "1", "3", "0"]
    assert tables["questions", first] == ["5", "1.2", "2", "0", "0"]
    assert tables["questions", second] == ["3", "1.0", "1", "1", "1"]
    assert tables["questions", "all"] == ["8", "1.1", "2", "1", "1"]
    assert tables["words of answers", first] == ["5", "10", "2", "4", "4"]  # 0, 1, 2, 3, 4
    assert tables["media, each once, and seconds of videos", first] == ["1", "2", "0", "5.0", "2.5", "3.0", "3.0"]
    assert tables["media, each once, and seconds of videos", second] == ["1", "1", "1", "0.0", "-", "-", "-"]
    assert tables["media, each once, and seconds of videos", "all"] == ["1", "3", "1", "5.0", "2.5", "3.0", "3.0"]
    assert tables["frames of videos", "all"] == ["41", "15", "20", "20"]  # 20, 15 and 6


def test_what_cannot_be_read_is_told(stats, media, write):
    file = write([llava(video="zero.mp4", id="empty"), llava(), "{broken"])
    code, tables, out = stats(file, "--media-root", str(media), "--workers", "1")
    assert code == 1
    assert tables["records", file] == ["1", "0", "0", "1", "2", "1"]
    assert tables["media, each once, and seconds of videos", file] == ["0", "1", "1", "0.0", "-", "-", "-"]
    assert f"{file}:1: {media / 'zero.mp4'}: FFmpeg cannot open it" in out
    assert f"{file}:3: got broken JSON" in out
    assert "2 faults in 2 records" in out
