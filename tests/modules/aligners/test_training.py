"""Every kind of aligner trains on the tiny backbone of its kind; from its checkpoint alone it trains on, and chats."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from ppl import checkpoints
from ppl.datamodules.processing import Processor
from ppl.modules.generation import Generation
from ppl.serving.session import ChatSession
from tests.modules.tiny import ROOT
from tests.parity.native import ROWS, make_batch
from tests.recipes.discovery import QUIET, SMALL_QUESTIONS, run

RATES = "--model.learning_rates={language_model: 1e-3, projector: 1e-3, text_tower: 1e-2, aligner_projection: 1e-2}"
KINDS = {
    "own_tower": ("tiny_clip", "tiny_internvl", "internvl2_5", ["--model.aligner.own_tower=true"]),
    "siglip": ("tiny_siglip", "tiny_llava_onevision", "chatml", ["--model.aligner.context=uniform"]),
    "languagebind": ("tiny_languagebind", "tiny_video_llava", "vicuna_v1", []),
    "learned": ("tiny_learned", "tiny_internvl", "internvl2_5", []),
}
"""Aligner, backbone, template, and an option that the checkpoint must remember."""


def fit(kind):
    aligner, backbone, template, option = KINDS[kind]
    recipe = ["-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml", "--model.alignment=null"]
    parts = [f"--model.backbone=recipes/parts/backbones/{backbone}.yaml"]
    parts += [f"--model.aligner=recipes/parts/aligners/{aligner}.yaml", *option, RATES]
    data = ["--data=recipes/parts/data/synthetic.yaml", *SMALL_QUESTIONS, f"--data.template={template}"]
    kernel = ["--model.pooler.kernel_size=[2,2,2]", "--model.pooler.image_kernel_size=[1,2,2]"]
    return run("fit", *recipe, *parts, *data, *kernel, *QUIET, "--trainer.default_root_dir=run")


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    """Template, the model after two steps, and what its checkpoint gives once the recipe's folders are gone."""
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cli = fit(request.param)
        assert cli.trainer.global_step == 2
        shutil.rmtree("recipes")
        (checkpoint,) = Path("run").rglob("*.ckpt")
        loaded = checkpoints.load(checkpoint).model
    return KINDS[request.param][2], cli.model.model.eval(), loaded


def test_it_comes_back_and_trains_on(trained):
    template, model, loaded = trained
    assert type(loaded.aligner) is type(model.aligner)
    batch = make_batch(model, ROWS["mixed"], template)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(batch), model(batch))
    loaded.train().zero_grad()
    (loaded(batch) ** 2).mean().backward()
    parameters = dict(loaded.aligner.named_parameters())
    parts = {p for _, members in loaded.aligner.parts() for p in members}
    assert [name for name, p in parameters.items() if p in parts and (p.grad is None or not p.grad.any())] == []
    assert {name for name, p in parameters.items() if p not in parts and p.grad is not None} <= {"logit_scale"}


def test_it_chats(trained, tmp_path):
    template, _, model = trained
    Image.effect_noise((60, 40), 90).convert("RGB").save(tmp_path / "noise.png")
    session = ChatSession(model.eval(), Processor(model.input_spec, template), tmp_path / "noise.png")
    first, second = session.relevance("where is the square ?"), session.relevance("which way ?")
    assert first.shape == (session.media[0].info.num_frames, *model.backbone.grid_size)
    assert first.sum().item() == pytest.approx(1, abs=1e-5)
    assert not torch.equal(first, second)
    assert isinstance("".join(session.ask("what colour ?", Generation(max_new_tokens=2))), str)
