"""A benchmark is asked by a real model of tiny size and scored, as `ppl predict` and `ppl score` do."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from lightning import Trainer

from ppl.callbacks.row_writer import RowWriter
from ppl.cli import main
from ppl.datamodules.benchmark import BenchmarkDataModule
from ppl.datamodules.synthetic.benchmark_files import write_benchmark
from ppl.evaluation.benchmarks.embedded_world import EmbeddedWorld, Official
from ppl.evaluation.benchmarks.videomme import Paper, VideoMME
from ppl.evaluation.rows import read_rows
from ppl.evaluation.runs import read_runs
from ppl.evaluation.scoring import score
from ppl.modules.generation import Generation
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule
from ppl.training_cli import run_training_cli
from tests.evaluation.made_up import make_video, make_videomme
from tests.evaluation.test_score_command import WITHOUT_TORCH
from tests.modules.tiny import ROOT, inputs_seen, tiny_aligner, tiny_backbone

pytestmark = pytest.mark.filterwarnings("ignore:Attribute .* (is an instance of `nn.Module`|removed from hparams)")

FIT = """
    fit -c recipes/experiments/tiny_sft.yaml -c recipes/overlays/debug.yaml --model.alignment=null --model.cache=null
    --data.num_videos=2 --data.num_questions=8 --data.num_held_out_videos=2 --data.num_held_out_questions=4
    --data.batch_size=4 --trainer.logger=false
"""


@pytest.fixture(autouse=True)
def _short_answers(monkeypatch):
    monkeypatch.setattr(Paper, "max_new_tokens", 3)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_videomme(tmp_path_factory.mktemp("videomme"))


def module():
    torch.manual_seed(0)
    pooler = WeightedPooler((8, 6, 6), None, (1, 6, 6))
    return SFTModule(tiny_backbone(), pooler, tiny_aligner(), generation=Generation(max_new_tokens=3))


def predict(data, folder, asked=None):
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[RowWriter()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.predict(asked or module(), data, return_predictions=False)
    return list(read_rows(folder / "rows-0.jsonl"))


def test_every_question_has_a_row_that_can_be_scored_alone(root, tmp_path):
    rows = predict(BenchmarkDataModule(VideoMME(str(root)), Paper(), "plain_v1", num_workers=0), tmp_path)
    assert [row.id for row in rows] == ["000-0", "000-1", "000-2", "001-0", "001-1", "001-2"]
    assert {len(row.frames[0]) for row in rows[:3]} == {32}
    assert {len(row.frames[0]) for row in rows[3:]} == {64}
    assert {row.visual_tokens for row in rows} == {4, 8}
    assert rows[0].prompt.endswith("?\n['A. One.' 'B. Two.' 'C. Three.' 'D. Four.']\nThe best answer is:")
    report, _ = score(read_runs([tmp_path])[0])
    assert (report.answered, report.total, report.coverage) == (6, 6, 1.0)
    assert {s.group for s in report.scores} >= {"overall", "duration=short", "duration=long"}


def test_one_video_is_read_and_encoded_once_for_all_its_questions(root, tmp_path):
    asked = module()
    with inputs_seen(asked.model.backbone.vision_tower) as seen:
        predict(BenchmarkDataModule(VideoMME(str(root)), Paper(), "plain_v1", num_workers=0), tmp_path, asked)
    assert [len(frames) for frames in seen] == [32, 64]


def test_a_killed_run_goes_on_behind_its_last_whole_row(root, tmp_path):
    whole = predict(BenchmarkDataModule(VideoMME(str(root)), Paper(), "plain_v1", num_workers=0), tmp_path / "whole")
    folder = tmp_path / "killed"
    folder.mkdir()
    lines = (tmp_path / "whole/rows-0.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows-0.jsonl").write_text("".join(lines[:4]) + lines[4][:50])
    rows = predict(BenchmarkDataModule(VideoMME(str(root)), Paper(), "plain_v1", num_workers=0), folder)
    assert [row.id for row in rows] == [row.id for row in whole]
    assert json.loads((folder / "rows-0.jsonl").read_text().splitlines()[3]) == json.loads(lines[3])


def test_a_row_that_lacks_only_the_end_of_its_line_is_kept(root, tmp_path):
    """Its question counts as answered when the next run begins: the row must be there when that run ends."""
    predict(BenchmarkDataModule(VideoMME(str(root)), Paper(), "plain_v1", num_workers=0), tmp_path)
    file = tmp_path / "rows-0.jsonl"
    written = file.read_bytes()
    lines = written.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:4])[:-1])
    predict(BenchmarkDataModule(VideoMME(str(root)), Paper(), "plain_v1", num_workers=0), tmp_path)
    assert file.read_bytes().startswith(b"".join(lines[:4]))
    assert score(read_runs([tmp_path])[0])[0].coverage == 1.0


def test_another_protocol_s_answers_are_not_mixed(root, tmp_path):
    predict(BenchmarkDataModule(VideoMME(str(root)), Paper(), "plain_v1", num_workers=0), tmp_path)
    other = BenchmarkDataModule(VideoMME(str(root)), Paper(array_options=False), "plain_v1", num_workers=0)
    with pytest.raises(
        ValueError, match=r"expected those of .* to videomme by .*array_options': False.*set trainer.default_root_dir"
    ):
        predict(other, tmp_path)


def test_missing_media_are_an_error_or_a_lower_coverage(root, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "videomme").symlink_to(root / "videomme")
    (tmp_path / "data" / "v0.mp4").symlink_to(root / "data" / "v0.mp4")
    benchmark = VideoMME(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"got 1 of 2 media files missing"):
        predict(BenchmarkDataModule(benchmark, Paper(), "plain_v1", num_workers=0), tmp_path / "run")
    data = BenchmarkDataModule(benchmark, Paper(), "plain_v1", allow_missing=True, num_workers=0)
    predict(data, tmp_path / "run")
    report, _ = score(read_runs([tmp_path / "run"])[0])
    assert (report.answered, report.total, report.coverage) == (3, 6, 0.5)


def test_missing_subtitles_are_an_error_or_a_lower_coverage_where_they_are_said(tmp_path):
    benchmark = VideoMME(str(make_videomme(tmp_path)))
    said = Paper(subtitles=True)
    (tmp_path / "subtitle").mkdir()
    (tmp_path / "subtitle" / "v1.srt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"got 1 files missing that prompts are made from.*\n  .*/v0.srt$"):
        BenchmarkDataModule(benchmark, said, "plain_v1").setup("predict")
    data = BenchmarkDataModule(benchmark, said, "plain_v1", allow_missing=True, num_workers=0)
    assert {row.id[:3] for row in predict(data, tmp_path / "run")} == {"001"}
    assert score(read_runs([tmp_path / "run"])[0])[0].coverage == 0.5
    BenchmarkDataModule(benchmark, Paper(), "plain_v1").setup("predict")


def test_nothing_to_ask_is_an_error(root):
    data = BenchmarkDataModule(VideoMME(str(root), duration="medium"), Paper(), "plain_v1")
    with pytest.raises(ValueError, match=r"got nothing to ask of videomme.*, which has 0 questions"):
        data.setup("predict")


def world(root, **options):
    return BenchmarkDataModule(EmbeddedWorld(str(root)), Official(), "plain_v1", num_workers=0, **options)


@pytest.fixture(scope="module")
def made_up_world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_benchmark(folder, num_videos=2)
    return folder


def test_answers_do_not_depend_on_how_many_are_given_at_once(made_up_world, tmp_path):
    """11 questions a video, 11, 4 or 1 at a time: padding differs, and the greedy choice of this model does not."""
    asked = module()
    said = []
    for number in (16, 4, 1):
        with inputs_seen(asked.model.backbone.vision_tower) as seen:
            rows = predict(world(made_up_world, rows_at_a_time=number), tmp_path / str(number), asked)
        assert [len(frames) for frames in seen] == [8, 8], "once a video"
        said.append([row.text for row in rows])
    assert said[0] == said[1] == said[2]
    assert any(said[0]), "a model that says nothing shows nothing"


def test_rows_say_how_long_they_took_and_end_where_the_protocol_says(made_up_world, tmp_path):
    asked = module()
    asked.generation = Generation(max_new_tokens=100)
    rows = predict(world(made_up_world), tmp_path, asked)
    assert {tuple(row.milliseconds) for row in rows} == {("decode", "encode", "pool", "generate")}
    assert all(took > 0 for row in rows for took in row.milliseconds.values())
    assert max(len(row.text.split()) for row in rows) == Official.max_new_tokens


def test_answers_of_another_model_are_not_mixed(made_up_world, tmp_path):
    asked = module()
    [first, *_] = predict(world(made_up_world, limit=1), tmp_path, asked)
    assert re.fullmatch(r"LlavaNextBackbone [0-9a-f]{12}", first.model)
    with torch.no_grad():
        next(asked.model.backbone.hf.lm_head.parameters()).add_(1e-3)
    with pytest.raises(ValueError, match=r"answers of LlavaNextBackbone .* expected those of LlavaNextBackbone"):
        predict(world(made_up_world), tmp_path, asked)
    asked = module()
    asked.generation = Generation(num_beams=2)
    with pytest.raises(ValueError, match=r"expected those of LlavaNextBackbone"):
        predict(world(made_up_world), tmp_path, asked)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/sft/checkpoints/last.ckpt", "sft/last"),
        ("exported/mine", "exported/mine"),
        ("/last.ckpt", "last"),
        ("a/b/c/epoch=1-step=3.ckpt", "c/epoch=1-step=3"),
    ],
)
def test_a_model_is_named_after_its_run_without_a_path(path, name):
    asked = module()
    asked.loaded_from = path
    asked.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    assert re.fullmatch(rf"{name} [0-9a-f]{{12}}", asked.answers_as("plain_v1"))
    assert asked.answers_as("plain_v1") != asked.answers_as("chatml")


def kill_once_it_has_answered(arguments, file, folder):
    """Start this ``ppl``, whichever is installed, on its own, and kill it as soon as there is a row."""
    program = subprocess.Popen(
        [sys.executable, "-m", "ppl", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not (file.exists() and file.stat().st_size):
        assert program.poll() is None, program.stderr.read().decode()
        time.sleep(0.005)
    program.send_signal(signal.SIGKILL)
    program.communicate()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the recipes' folders are relative to it
        run_training_cli([*FIT.split(), f"--trainer.default_root_dir={folder}"])
    return folder / "checkpoints" / "last.ckpt"


@pytest.mark.filterwarnings("ignore:Couldn't infer the batch indices fetched from your dataloader")
def test_a_killed_program_goes_on_and_is_scored_and_compared(checkpoint, in_tmp_path, capsys):
    """The whole way, by the command line: a checkpoint, a run that is killed, the rest of it, scores, a comparison."""
    write_benchmark("world", num_videos=15)
    recipe = ROOT / "recipes/eval/embedded_world.yaml"
    ask = ["predict", "-c", str(recipe), "--data.benchmark.init_args.root=world"]
    ask += ["--model=ppl.checkpoints.load", f"--model.path={checkpoint}"]
    listed = "--data.protocol.init_args.list_options=true"
    file = in_tmp_path / "eval/rows-0.jsonl"
    kill_once_it_has_answered([*ask, "--trainer.default_root_dir=eval"], file, in_tmp_path)
    killed = file.read_bytes()
    whole = killed[: killed.rfind(b"\n") + 1]
    assert 0 < len(whole.splitlines()) < 165
    main([*ask, "--trainer.default_root_dir=eval"])
    assert file.read_bytes().startswith(whole), "rows that were there have not been touched"
    rows = list(read_rows(file))
    assert len(rows) == len({row.id for row in rows}) == 165
    assert {row.model for row in rows} == {rows[0].model}
    assert rows[0].model.startswith("run/last ")
    main([*ask, listed, "--data.limit=3", "--trainer.default_root_dir=listed"])
    capsys.readouterr()
    main(["score", "eval", "--json", "scores.json"])
    [report] = json.loads((in_tmp_path / "scores.json").read_text())
    assert (report["answered"], report["coverage"]) == (165, 1.0)
    assert {"accuracy", "exact_match", "token_f1", "yes_ratio"} == {each["metric"] for each in report["scores"]}
    main(["compare", "eval", "listed"])
    assert "embedded-world" in capsys.readouterr().out


def page_block(language):
    page = (ROOT / "docs/evaluate.md").read_text(encoding="utf-8").partition("## A new benchmark")[2]
    return re.search(rf"```{language}[^\n]*\n(.*?)```", page, re.DOTALL)[1]


@pytest.mark.filterwarnings("ignore:Couldn't infer the batch indices fetched from your dataloader")
def test_a_new_benchmark_is_one_file_and_one_yaml(checkpoint, in_tmp_path, monkeypatch):
    """The two of docs/evaluate.md, outside of ppl; scored by a program that has no torch and no network."""
    for language, name in (("python", "colours.py"), ("yaml", "colours.yaml")):
        (in_tmp_path / name).write_text(page_block(language), encoding="utf-8")
    folder = in_tmp_path / "benchmarks/colours"
    questions = [{"id": str(i), "video": f"v{i // 2}.mp4", "question": "what ?", "colour": "red"} for i in range(3)]
    make_video(folder / "v0.mp4")
    make_video(folder / "v1.mp4")
    (folder / "questions.json").write_text(json.dumps(questions))
    with monkeypatch.context() as patch:
        patch.syspath_prepend(in_tmp_path)
        main(["predict", "-c", "colours.yaml", "--model=ppl.checkpoints.load", f"--model.path={checkpoint}"])
        del sys.modules["colours"]
    rows = list(read_rows(in_tmp_path / "runs/eval/colours/rows-0.jsonl"))
    said = "<media>\nwhat ? Answer with one word."
    assert [(row.id, row.prompt, row.guide) for row in rows] == [(str(i), said, "what ?") for i in range(3)]
    score = [sys.executable, "-c", WITHOUT_TORCH, "score", "runs/eval/colours"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{in_tmp_path}"}
    refused = subprocess.run(score, capture_output=True, text=True, env=environment)
    assert (refused.returncode, "say so by --import colours" in refused.stderr) == (1, True), refused.stderr
    done = subprocess.run(
        [*score, "--import", "colours", "--json", "-"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    [report] = json.loads(done.stdout)
    right = 100 * sum(row.text.strip().lower() == "red" for row in rows) / 3
    assert (report["answered"], report["total"]) == (3, 3)
    assert (report["scores"][0]["metric"], report["scores"][0]["value"]) == ("accuracy", pytest.approx(right))
