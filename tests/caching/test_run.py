"""``ppl cache`` on files, the runs that share what it wrote, and ``ppl chat``."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ppl.cli import build_parser, main
from ppl.datamodules.synthetic.world import random_scene, render
from ppl.datamodules.synthetic.writer import write_video
from ppl.serving.launch import open_session
from ppl.training_cli import run_training_cli
from tests.modules.tiny import ROOT

RECIPE = """
    -c recipes/experiments/tiny_sft.yaml -c recipes/overlays/debug.yaml --model.alignment=null
    --data=ppl.datamodules.instruction.InstructionDataModule --data.num_frames=6 --data.batch_size=2
    --data.template=plain_v1
"""


def write_data(folder):
    """Two videos, one of which two records ask about, an image alone, and two images of which one is the first."""
    for number in range(2):
        write_video(folder / f"{number}.mp4", render(random_scene(np.random.default_rng(number))))
    for colour in ("red", "blue"):
        Image.new("RGB", (60, 50), colour).save(folder / f"{colour}.png")

    def line(number, *media):
        content = [{"type": kind, kind: name} for kind, name in media]
        question = [*content, {"type": "text", "text": "what colour is it ?"}]
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": "red"}]
        return json.dumps({"id": str(number), "messages": messages})

    clips = [[("video", "0.mp4")], [("video", "1.mp4")], [("video", "0.mp4")]]
    images = [[("image", "red.png")], [("image", "red.png"), ("image", "blue.png")]]
    path = folder / "data.jsonl"
    path.write_text("\n".join(line(number, *media) for number, media in enumerate(clips + images)))
    return path


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # the recipes' folders are relative to it
    data, folder = write_data(tmp_path), tmp_path / "features"
    return [*RECIPE.split(), f"--data.train_files=[{data}]", f"--model.cache.folder={folder}"]


def files(tmp_path):
    return sorted((tmp_path / "features").rglob("*.safetensors"))


def counts(text):
    found = re.search(r"(\d+) written .*?(\d+) already there, (\d+) not readable", " ".join(text.split()))
    return [int(number) for number in found.groups()]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_what_is_filled_ahead_serves_training_and_chat(words, tmp_path, capsys, monkeypatch):
    main(["cache", *words, "--dry-run", "--data.num_workers=0"])
    shown = capsys.readouterr().out
    assert re.search(r"video\W+6\W+2\W+", shown)
    assert re.search(r"multi_image\W+1\W+2\W+", shown)
    assert not files(tmp_path), "only the size was asked for"

    main(["cache", *words, "--data.num_workers=2"])
    assert counts(capsys.readouterr().out) == [5, 0, 0]
    kept = {file: file.read_bytes() for file in files(tmp_path)}
    first, *others = kept
    grid = load_file(first)["grid"]
    first.unlink()
    main(["cache", *words, "--data.num_workers=0"])  # goes on where it was stopped
    assert counts(capsys.readouterr().out) == [1, 4, 0]
    assert files(tmp_path) == [first, *others]
    assert all(file.read_bytes() == kept[file] for file in others)
    torch.testing.assert_close(load_file(first)["grid"], grid, rtol=1e-2, atol=1e-2)  # fp16, and another batch

    encoded, decoded = [], []
    monkeypatch.setattr("ppl.modules.video_llm.encode_frames", lambda *arguments: encoded.append(arguments))
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("ppl.datamodules.processing.read_medium", lambda *arguments: decoded.append(arguments))
        run_training_cli(
            ["fit", *words, "--data.num_workers=0", "--trainer.logger=false", f"--trainer.default_root_dir={folder}"]
        )
    assert not encoded, "no frame went through the tower"
    assert not decoded, "no frame was decoded for it"
    [checkpoint] = folder.rglob("*.ckpt")
    options = ["chat", str(tmp_path / "0.mp4"), "--checkpoint", str(checkpoint), "--cache", str(tmp_path / "features")]
    session = open_session(build_parser().parse_args(options))
    assert session.media[0].grid.shape == (6, 6, 6, 96)
    assert not encoded
    assert len(files(tmp_path)) == 5


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_what_cannot_be_read_is_told_when_the_rest_is_done(words, tmp_path, capsys):
    shutil.copy(tmp_path / "data.jsonl", tmp_path / "1.mp4")
    with pytest.raises(SystemExit, match=r"ppl cache: got 1 of 5 media that cannot be read(?s:.)*1\.mp4: VideoError"):
        main(["cache", *words, "--data.num_workers=0"])
    assert counts(capsys.readouterr().out) == [4, 0, 1]
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--model.cache=null"], "keeps features nowhere, expected a folder: add --model.cache.folder=FOLDER"),
        (["--model.cache={memory_gib: 1.0, folder: null}"], "keeps features in memory alone, expected a folder"),
        (["--model.cache.folder=null"], "got cache.folder 'None', expected a folder's path"),
        (["--model.learning_rates.vision_tower=1e-4"], "a vision tower that trains.*set --model.learning_rates.vision"),
        (
            ["--data.sampler=ppl.datamodules.frame_sampling.RandomInSegment"],
            "frames drawn at random.*model.cache: null",
        ),
        (["--model.cache.memory_gb=1"], "memory_gb"),
    ],
)
def test_what_cannot_be_kept_is_refused(words, tmp_path, changes, message):
    with pytest.raises(SystemExit, match=message):
        main(["cache", *words, *changes])
    assert not files(tmp_path)


def test_cells_of_an_ablation_share_one_folder_and_keep_the_recipe_s_memory():
    from ppl.planning.recipe import read_recipe

    recipe = read_recipe(["-c", "recipes/experiments/tiny_sft.yaml", "--model.cache.folder=shared"])
    expected = {"memory_gib": 1.0, "folder": "shared", "storage": "float16", "compression": "none"}
    assert recipe.model["init_args"]["cache"] == expected
    without = read_recipe(["-c", "recipes/experiments/sft_llava_next.yaml", "--model.cache.folder=shared"])
    assert without.model["init_args"]["cache"] == expected | {"memory_gib": 0.0}
