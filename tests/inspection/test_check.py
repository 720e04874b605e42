"""`ppl data check` as a user meets it, on real files."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from ppl.cli import main
from tests.evaluation.made_up import make_videomme
from tests.inspection.conftest import llava
from tests.planning.measuring import ROOT, TINY

RECIPE = ["-c", TINY, "--data=ppl.datamodules.instruction.InstructionDataModule", "--data.num_frames=8"]


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def check(capsys):
    """Run it and return exit code, output and errors."""

    def run(*words):
        code = 0
        try:
            main(["data", "check", *words])
        except SystemExit as stopped:
            code = stopped.code
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def counts(out, row):
    [line] = [line for line in out.splitlines() if f"│ {row}" in line]
    return [int(number) for number in re.findall(r" (\d+) │", line)]


def test_broken_ones_are_listed_with_their_lines(media, write, sound, broken, tmp_path):
    """In a process of its own, with the process that decodes beside it."""
    file, report = write([*sound, *broken]), tmp_path / "report.jsonl"
    command = [sys.executable, "-m", "ppl", "data", "check", file, "--media-root", str(media), "--workers", "1"]
    done = subprocess.run([*command, "--report", str(report)], capture_output=True, text=True, cwd=ROOT, timeout=250)
    assert done.returncode == 1, done.stderr
    faults = [json.loads(line) for line in report.read_text().splitlines()]
    reasons = {int(fault["origin"].removeprefix(f"{file}:")): fault["reason"] for fault in faults}
    assert len(faults) == len(reasons) == 8
    expected = {
        7: "damaged",
        8: "FFmpeg cannot open it",
        9: "missing; correct the path or media_root",
        10: "FFmpeg cannot open it",
        11: "not an image Pillow can read",
        12: "clip [50.0, None) s does not fit a video of 2.000 s",
        13: "got 2 <image> and 0 <video> placeholders; expected one for each of 1 images",
        14: "got broken JSON",
    }
    assert reasons.keys() == expected.keys()
    for line, reason in expected.items():
        assert reason in reasons[line]
        assert [shown for shown in done.stdout.splitlines() if shown.startswith(f"{file}:{line}: ") and reason in shown]
    assert {fault["medium"] for fault in faults if "missing" in fault["reason"]} == {str(media / "gone.mp4")}
    assert "8 faults in 8 records" in done.stdout
    assert "Lengths are left out: they are those of a recipe's model: ppl data check -c RECIPE" in done.stdout


def test_sound_files_exit_with_zero(check, media, write, sound):
    files = [write(sound[:3], "one.jsonl"), write([sound[0], sound[5]], "two.jsonl")]  # without a decoder's start
    code, out, _ = check(*files, "--media-root", str(media))
    assert code == 0
    assert "nothing is broken" in out
    assert counts(out, files[0]) == [1, 1, 1, 0, 3, 0]
    assert counts(out, files[1]) == [1, 0, 0, 1, 2, 0]
    assert counts(out, "all") == [2, 1, 1, 1, 5, 0]


def test_a_recipe_gives_lengths_after_pooling(check, media, write):
    """8 frames of 6 x 6 patches in windows of (2, 3, 3) are 16 tokens; the text is counted by the tokenizer itself."""
    items = [llava("what " * n + "?", video="frames", id=f"n{n}") for n in (3, 30, 300, 600)]
    items += [{"messages": [{"role": "user", "content": "what ?"}]}]
    file = write(items)
    code, out, _ = check(*RECIPE, f"--data.train_files=[{file}]", f"--data.media_root={media}")
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "recipes/parts/backbones/tiny_llava_next", model_max_length=9999)
    texts = [f"USER: \n{'what ' * n}? ASSISTANT: a goal .</s>" for n in (3, 30, 300, 600)]
    lengths = [16 + 1 + len(tokenizer(text)["input_ids"]) for text in texts]  # one that begins the text
    told = [(int(a), b) for a, b in re.findall(r"^ +(\d+)  \S+  \(id (\w+)\)$", out, flags=re.MULTILINE)]
    assert told == [(length, f"n{n}") for length, n in zip(lengths, (3, 30, 300, 600), strict=True)][::-1]
    assert f"longest {max(lengths)}, the model's limit 512" in out
    assert code == 1
    assert f"{file}:5: got a conversation that ends with a question" in out
    assert f"{file}:4: got {lengths[3]} positions, expected at most the model's 512" in out
    assert "2 faults in 2 records" in out
    packed = ["--data.loading.packing=rows", "--data.loading.row_length=100"]
    _, out, _ = check(*RECIPE, *packed, f"--data.train_files=[{file}]", f"--data.media_root={media}")
    assert f"{file}:3: got {lengths[2]} positions, expected at most the packed row's 100" in out


def test_sources_are_read_whole(check, media, write, sound):
    """Whatever a mixture draws from them, all records are looked at; predict records need no answer."""
    file = write(sound[:3])
    question = write([{"messages": [{"role": "user", "content": "what ?"}]}], "questions.jsonl")
    sources = json.dumps([{"path": file, "sampling": "first:1", "repeat": 3}])
    words = [f"--data.sources={sources}", f"--data.predict_files=[{question}]", f"--data.media_root={media}"]
    code, out, _ = check(*RECIPE, *words)
    assert code == 0, out
    assert counts(out, f"train: {file}") == [1, 1, 1, 0, 3, 0]
    assert counts(out, f"predict: {question}") == [1, 0, 0, 0, 1, 0]


def test_a_tokenizer_that_is_nowhere_leaves_lengths_out(check, media, write, sound):
    words = ["-c", "recipes/experiments/sft_llava_next.yaml", "--data.num_workers=0"]
    code, out, _ = check(*words, f"--data.train_files=[{write(sound[:3])}]", f"--data.media_root={media}")
    assert code == 0
    assert "Lengths are left out: got source='llava-hf/llava-v1.6-vicuna-7b-hf', but found no config.json" in out


def test_a_benchmark_s_missing_media_are_listed_before_it_is_asked(check, tmp_path):
    """Its recipe as it is committed, without a model; half of its six questions are about each video."""
    words = ["-c", "recipes/eval/videomme.yaml", f"--data.benchmark.root={make_videomme(tmp_path)}", "--workers", "1"]
    code, out, _ = check(*words)
    assert (code, counts(out, "videomme")) == (0, [0, 0, 0, 6, 6, 0]), out
    gone, report = tmp_path / "data" / "v1.mp4", tmp_path / "report.jsonl"
    gone.unlink()
    code, out, _ = check(*words, "--report", str(report))
    faults = [json.loads(line) for line in report.read_text().splitlines()]
    assert code == 1
    assert [(fault["id"], fault["medium"]) for fault in faults] == [(f"001-{i}", str(gone)) for i in range(3)]
    assert "videomme: question 001-0" in out
    assert "3 faults in 3 records" in out
    subtitled = "--data.protocol.subtitles=true"
    code, out, _ = check(*words, subtitled, "--report", str(report))
    faults = [json.loads(line) for line in report.read_text().splitlines()]
    assert [fault["medium"] for fault in faults[:3]] == [str(gone)] * 3
    assert [(fault["id"], fault["medium"]) for fault in faults[3:]] == [
        (f"00{video}-{i}", str(tmp_path / "subtitle" / f"v{video}.srt")) for video in range(2) for i in range(3)
    ]
    assert "9 faults in 6 records" in out
    code, _, err = check("-c", "recipes/eval/videomme.yaml", f"--data.benchmark.root={tmp_path / 'none'}")
    assert code == 2
    assert "expected Video-MME's questions: set the benchmark's root" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "got nothing to look at, expected annotation files, or a recipe with -c"),
        (["gone.jsonl"], "got 'gone.jsonl', where nothing is"),
        (["README.md", "--workers", "0"], "got 0 workers, expected at least 1"),
        (["README.md", "--report", "gone/report.jsonl"], "expected a file in a folder that exists"),
        (["-c", TINY, "--media-root", "x"], "got --media-root beside a recipe"),
        (["-c", TINY], "got SyntheticInstructionDataModule as data, expected annotation files"),
        (RECIPE, "got a recipe whose data name no annotation file"),
        (["--config", *RECIPE[1:2], "--model=null", *RECIPE[2:]], "got a recipe without a model"),
        ([*RECIPE, "--data.train_fils=[a.jsonl]"], "train_fils"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_misuse_exits_with_two(check, words, message):
    code, _, err = check(*words)
    assert code == 2
    assert message in err
