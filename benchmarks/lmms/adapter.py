"""`lmms-eval --model ppl` against `ppl predict`: one checkpoint, made-up videos, lmms-eval's own unmodified tasks.

Offline: lmms-eval finds the questions in a folder below the current one that is named as the data set is, and the
videos in HF_HOME.
"""

import json
import os
import runpy
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
# By its path: a package that lmms-eval brings along is called `tests` too.
make_videomme = runpy.run_path(str(ROOT / "tests/evaluation/made_up.py"))["make_videomme"]
FRAMES = 8
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
SUBTITLE = '1\n00:00:00,000 --> 00:00:01,500\n<font color="white" size=".72c">a ring of gold</font>\n\n'


def make_checkpoint(folder: Path) -> Path:
    """Two steps of training of the tiny recipe; then larger weights and no end of an answer: answers differ."""
    import torch

    from ppl.checkpoints import load
    from ppl.training_cli import run_training_cli

    recipes = ["-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml"]
    options = ["--model.alignment=null", "--trainer.logger=false", f"--trainer.default_root_dir={folder}"]
    with chdir(ROOT):
        run_training_cli(["fit", *recipes, *options])
    (path,) = folder.rglob("*.ckpt")
    lengthen_answers(path, load(path).model.backbone.tokenizer.all_special_ids, torch)
    return path


def lengthen_answers(path: Path, special: list[int], torch) -> None:
    checkpoint = torch.load(path, weights_only=True)
    for name, weight in checkpoint["state_dict"].items():
        if "language_model.layers" in name and weight.ndim > 1:
            weight.mul_(3)
        if name.endswith("lm_head.weight"):
            weight[special] = 0
    torch.save(checkpoint, path)


def make_world(folder: Path) -> tuple[Path, dict[str, str]]:
    """Video-MME's files where lmms-eval looks for them, and its environment."""
    home = folder / "hf"
    root = make_videomme(home / "videomme", videos=3)
    file = root / "videomme" / "test-00000-of-00001.parquet"
    rows = pq.read_table(file).to_pylist()
    for row in rows:  # categories that the task knows
        row |= {"sub_category": "Astronomy", "task_type": "Counting Problem"}
    pq.write_table(pa.Table.from_pylist(rows), file)
    (root / "subtitle").mkdir()
    (root / "subtitle" / "v0.srt").write_text(SUBTITLE)
    shutil.copytree(root / "videomme", folder / "lmms-eval" / "Video-MME" / "videomme")
    return root, os.environ | OFFLINE | {"HF_HOME": str(home), "PYTHONPATH": str(ROOT)}


def ask_lmms(folder: Path, environment: dict[str, str], checkpoint: Path, processes: int = 1) -> dict:
    """Run the command and read what it logged: answers by task and document, and its scores."""
    out = folder / f"out{len(list(folder.glob('out*')))}"
    arguments = f"checkpoint={checkpoint},num_frames={FRAMES},num_workers=1"
    start = ["torchrun", f"--nproc_per_node={processes}", "-m"] if processes > 1 else ["python", "-m"]
    command = [str(Path(sys.executable).with_name(start[0])), *start[1:], "lmms_eval", "--model", "ppl"]
    command += ["--model_args", arguments, "--tasks", "videomme,videomme_w_subtitle", "--batch_size", "2"]
    command += ["--log_samples", "--output_path", str(out)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if not list(out.rglob("*_results.json")):  # its own exit status is 0 after an error
        raise RuntimeError(done.stdout[-3000:] + done.stderr[-6000:])
    answers = {}
    for file in sorted(out.rglob("*_samples_*.jsonl")):
        for line in file.read_text().splitlines():
            sample = json.loads(line)
            task = file.stem.partition("_samples_")[2]
            answers[task, "{:03}-{}".format(*divmod(sample["doc_id"], 3))] = sample["filtered_resps"]
    (results,) = [json.loads(file.read_text())["results"] for file in out.rglob("*_results.json")]
    scores = {task: values["videomme_perception_score,none"] for task, values in results.items()}
    return {"answers": answers, "scores": scores}


def ask_natively(folder: Path, root: Path, checkpoint: Path) -> dict:
    """The same questions by `ppl predict`'s parts and the `lmms` protocol."""
    from lightning import Trainer

    from ppl.callbacks.row_writer import RowWriter
    from ppl.checkpoints import load
    from ppl.datamodules.benchmark import BenchmarkDataModule
    from ppl.evaluation.benchmarks.videomme import Lmms, VideoMME
    from ppl.evaluation.runs import read_run
    from ppl.evaluation.scoring import score

    answers, scores = {}, {}
    for task, subtitles in (("videomme", False), ("videomme_w_subtitle", True)):
        module = load(checkpoint)
        data = BenchmarkDataModule(VideoMME(str(root), num_subtitled=1), Lmms(subtitles, FRAMES), num_workers=0)
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        trainer = Trainer(
            accelerator="cpu", logger=False, callbacks=[RowWriter()], default_root_dir=folder / task, **quiet
        )
        trainer.predict(module, data, return_predictions=False)
        rows = read_run(folder / task)
        answers |= {(task, row.id): row.text for row in rows}
        scores[task] = score(rows)[0].scores[0].value
    return {"answers": answers, "scores": scores}


def count_encodings(folder: Path, environment: dict[str, str], checkpoint: Path) -> dict[str, int]:
    """How often a video is decoded and encoded for its three questions, two of which fit into a batch."""
    os.environ |= environment
    from lmms_eval.evaluator import simple_evaluate

    from ppl.datamodules.decoders.pyav import PyAVDecoder
    from ppl.integrations.lmms_eval_model import PPLChat

    counts = {"questions": 0, "decoded": 0, "encoded_frames": 0}
    model = PPLChat(str(checkpoint), batch_size=2, num_frames=FRAMES, num_workers=0, max_new_tokens=2)

    class Counting(PyAVDecoder):
        def read(self, *arguments):
            counts["decoded"] += 1
            return super().read(*arguments)

    def seen(tower, arguments):
        counts["encoded_frames"] += len(arguments[0])

    model.processor.decoder = Counting()
    model.module.model.backbone.vision_tower.register_forward_pre_hook(seen)
    with chdir(folder):
        results = simple_evaluate(model=model, tasks=["videomme"], bootstrap_iters=0, log_samples=True)
    counts["questions"] = len(results["samples"]["videomme"])
    assert counts == {"questions": 9, "decoded": 3, "encoded_frames": 3 * FRAMES}, counts
    assert model.module.model.backbone.vision_tower is not None, "clean() deletes the model"
    return counts
