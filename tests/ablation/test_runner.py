"""The real `ppl ablate` in processes of its own: killed, started again, with a cell that fails."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import yaml
from rich.console import Console

from ppl.ablation.cell import begun, finish
from ppl.ablation.grid import Grid, alone
from ppl.ablation.results import CellResult, read_answers
from ppl.ablation.runner import Runner, devices
from ppl.ablation.spec import Ablation, Preparation, RowSpec
from tests.modules.tiny import ROOT

FEW = ["--data.num_videos=4", "--data.num_questions=16", "--data.num_held_out_videos=4", "--data.batch_size=8"]
FEW += ["--data.num_held_out_questions=14", "--trainer.enable_progress_bar=false", "--model.learning_rates.projector=0"]
ALIGN = ["-c", "recipes/experiments/tiny_align.yaml", "--data.num_batches=2", "--data.num_held_out_batches=1"]
GRID = {
    "name": "small",
    "title": "A small grid",
    "base": "recipes/experiments/tiny_sft.yaml",
    "seeds": [0],
    "prepare": [{"name": "align", "arguments": [*ALIGN, "--data.batch_size=8", "--seed_everything={seed}"]}],
    "arguments": [
        "--seed_everything={seed}",
        "--model.alignment={align}/alignment.safetensors",
        "--model.cache.folder={root}/features",
        *FEW,
    ],
    "rows": {
        "weighted": {"arguments": ["--model.pooler=recipes/parts/poolers/weighted.yaml"]},
        "too_large": {"arguments": ["--model.pooler.init_args.kernel_size=[2, 9, 9]"]},
    },
    "random": {"arguments": ["--model.pooler=recipes/parts/poolers/random.yaml", "--model.pooler.init_args.keep=16"]},
}


def results_in(folder):
    return [CellResult(**json.loads(line)) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def start(tmp_path):
    """Start the program on tmp_path/small.yaml; what still runs at the end of the test is killed."""
    begun = []

    def begin(*words):
        files = ["-c", str(tmp_path / "small.yaml"), "-o", str(tmp_path / "out")]
        with (tmp_path / "printed.txt").open("a") as log:
            command = [sys.executable, "-m", "ppl", "ablate", *files, *words]
            environment = os.environ | {"COLUMNS": "200"}
            begun.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def wait_until(condition, seconds=200):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def cells_running(folder):
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "ppl.ablation" in line and str(folder) in line]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_grid_goes_on_where_it_was_and_a_failing_cell_stops_nothing(tmp_path, start):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(GRID, sort_keys=False))
    out = tmp_path / "out"
    first = start("--devices=cpu,cpu")
    wait_until(lambda: (out / "weighted/seed_0/result.json").exists())
    assert first.poll() is None, (tmp_path / "printed.txt").read_text()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    wait_until(lambda: not cells_running(out), 10)  # none goes on without its parent
    kept = out / "weighted/seed_0/result.json"
    before = kept.stat().st_mtime_ns
    assert not (out / "random/seed_0/result.json").exists()

    assert start("--devices=cpu,cpu").wait() == 1  # a cell failed, and that is said
    printed = (tmp_path / "printed.txt").read_text()
    assert kept.stat().st_mtime_ns == before, "a finished cell is not run again"
    assert "failed too_large, seed 0: ValueError: kernel_size=(2, 9, 9) does not fit" in " ".join(printed.split())
    results = {result.row: result for result in results_in(out)}
    assert list(results) == ["weighted", "too_large", "average", "random"]
    assert "does not fit a grid" in results["too_large"].error
    for row in ("weighted", "average", "random"):
        assert results[row].tokens == 16
        assert results[row].steps == 2
        assert set(results[row].stage_ms) == {"decode", "tower", "pool", "prefill", "per_token"}
        assert results[row].peak_memory_mib > 100
        answers = read_answers(out / results[row].folder / "answers.jsonl")
        assert len(answers) == 14
        assert len({answer.video for answer in answers}) == 4
        for recipe in ("recipe.yaml", "test_recipe.yaml"):
            assert yaml.safe_load((out / results[row].folder / recipe).read_text())["model"]
    features = {file: file.stat().st_mtime_ns for file in (out / "features").rglob("*.safetensors")}
    assert len(features) == 4 + 4 + 4, "the training, validation and test videos once, for all cells"
    assert min(features.values()) < before, "those of the cell that was finished first are still there"
    assert (out / "weighted/seed_0/heatmap.png").exists()
    assert not (out / "average/seed_0/heatmap.png").exists()
    for name in ("report.html", "results.csv", "table.md", "pareto.png"):
        assert (out / name).stat().st_size > 0
    assert json.loads((out / "weighted/seed_0/job.json").read_text())["seed"] == 0


def test_devices(monkeypatch):
    assert devices("cpu,cpu") == ["cpu", "cpu"]
    assert devices("0,3") == ["0", "3"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert set(devices(None)) == {"cpu"}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices(None) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")  # what a scheduler gave; other GPUs are others'
    assert devices(None) == ["4", "5"]
    with pytest.raises(ValueError, match=r"got the devices \['gpu'\], expected GPU numbers or cpu"):
        devices("gpu")


def test_a_dry_run_prints_every_command_and_runs_none(tmp_path, start):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(GRID))
    assert start("--dry-run").wait() == 0
    printed = (tmp_path / "printed.txt").read_text()
    assert printed.count("to run") == 5
    assert "ppl fit -c recipes/experiments/tiny_sft.yaml" in printed
    assert not (tmp_path / "out").exists()


def test_a_failing_preparation_fails_its_seed_alone(tmp_path, monkeypatch):
    ablation = Ablation("small", "Small", "base.yaml", {"one": RowSpec()}, [0, 1], prepare=[Preparation("align", [])])

    def run_cell(self, job):
        failing = job.row == "align" and job.seed == 1
        answers = [{"id": "q", "video": "v", "category": "c", "correct": True}]
        job.write()
        (job.path / "answers.jsonl").write_text(json.dumps(answers[0]) + "\n")
        done = replace(begun(job), accuracy={"c": 1.0, "mean": 1.0}, tokens=1)
        finish(job, replace(begun(job), error="no data") if failing else done)

    monkeypatch.setattr(Runner, "_run_cell", run_cell)
    monkeypatch.setattr(Runner, "measure", lambda self, jobs: None)
    grid = Grid(ablation, tmp_path, [], Console())
    grid.run(Runner(["cpu"], Console()))
    grid.report()
    errors = {(result.row, result.seed): result.error for result in results_in(tmp_path)}
    rows = ("one", "average", "random")
    assert errors == {
        **{(row, 0): "" for row in rows},
        **{(row, 1): f"preparation align failed; its log: {tmp_path}/prepare/align/seed_1/log.txt" for row in rows},
    }
    (tmp_path / "one/seed_0/answers.jsonl").write_text("{}")
    with pytest.raises(KeyError):  # a file of another form is a bug to trace
        grid.report()
    other = {"id": "another", "video": "v", "category": "c", "correct": True}
    (tmp_path / "one/seed_0/answers.jsonl").write_text(json.dumps(other))
    assert not grid.report(), "answers to other questions cannot be compared; that is said, and stops no cell"
    more = Grid(replace(ablation, seeds=[2]), tmp_path, [], Console())
    assert {job.seed for job in more.jobs()} == {0, 1, 2}, "seeds that were run before stay in the report"


def test_two_at_once_in_one_folder_are_refused(tmp_path):
    with alone(tmp_path), pytest.raises(ValueError, match="another `ppl ablate` works in"), alone(tmp_path):
        pass
