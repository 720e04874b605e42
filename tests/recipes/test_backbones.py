"""Every tiny backbone trains two steps by its recipe, and its checkpoint alone gives the trained model back."""

from pathlib import Path

import pytest
import torch

from ppl import checkpoints
from tests.parity.native import ROWS, make_batch
from tests.recipes.discovery import QUIET, SMALL_QUESTIONS, found, run

TINY = [path for path in found("parts/backbones") if Path(path).stem.startswith("tiny_")]
OF_THEIR_OWN = {"tiny_llava_onevision": ["--model.backbone.video_newlines=row"]}
"""What a checkpoint must remember of a backbone's options."""
TEMPLATES = {"tiny_llava_onevision": "chatml", "tiny_internvl": "internvl2_5"}


def test_there_is_one_of_each_class():
    assert {Path(path).stem for path in TINY} == {
        "tiny_internvl",
        "tiny_llava_next",
        "tiny_llava_next_video",
        "tiny_llava_onevision",
        "tiny_video_llava",
    }


@pytest.mark.parametrize("path", TINY)
def test_it_trains_and_comes_back(path, tmp_path):
    name = Path(path).stem
    template = TEMPLATES.get(name, "vicuna_v1")
    recipe = ["-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml", "--model.alignment=null"]
    data = ["--data=recipes/parts/data/synthetic.yaml", *SMALL_QUESTIONS, f"--data.template={template}"]
    part = [f"--model.backbone={path}", *OF_THEIR_OWN.get(name, [])]
    kernel = ["--model.pooler.kernel_size=[2,2,2]", "--model.pooler.image_kernel_size=[1,2,2]"]
    cli = run("fit", *recipe, *part, *data, *kernel, *QUIET, f"--trainer.default_root_dir={tmp_path}")
    assert cli.trainer.global_step == 2
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    loaded, trained = checkpoints.load(checkpoint), cli.model.eval()
    assert loaded.conversation["template"] == template
    assert loaded.model.backbone.spec == trained.model.backbone.spec
    batch = make_batch(trained.model, ROWS["mixed"], template)
    with torch.no_grad():
        assert torch.equal(loaded.model(batch), trained.model(batch))
