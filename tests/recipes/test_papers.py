"""The large recipes hold the papers' numbers, in their full and LoRA forms and for long videos."""

import pytest

from ppl.modules.poolers.weighted import WeightedPooler
from tests.modules.tiny import ROOT
from tests.recipes.discovery import found, parsed, recipe

NAMES = ["sft_internvl3", "sft_llava_next", "sft_llava_video", "sft_video_llava"]
FORMS = {"full": [], "lora": ["-c", "recipes/overlays/lora.yaml"]}

BATCH = {"sft_video_llava": 128}
"""Where it is not PPLLaVA's 256: Video-LLaVA's Table 7."""

TOKENS = {"sft_llava_next": (24, 1024), "sft_llava_video": (27, 1296), "sft_internvl3": (16, 400)}
"""Side of the pooled grid, and what windows of (2, 3, 3) leave of 32 frames: (32 / 2) (side // 3)^2, by Eq. 2."""


def test_they_are_all_there():
    assert {f"recipes/experiments/{name}.yaml" for name in NAMES} <= set(found("experiments"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_training(name, form, capsys):
    config = parsed(capsys, "-c", f"recipes/experiments/{name}.yaml", *FORMS[form])
    trainer, model, data = config["trainer"], config["model"]["init_args"], config["data"]["init_args"]
    assert trainer["devices"] * data["batch_size"] * trainer["accumulate_grad_batches"] == BATCH.get(name, 256)
    assert trainer["max_epochs"] == 1
    assert trainer["max_steps"] == -1
    rates = {part: rate for part, rate in model["learning_rates"].items() if rate}
    assert rates.pop("lora") == 2e-4
    del rates["bt_adapter"]  # of which none of these models has one
    assert rates == {"language_model": 2e-5, "projector": 2e-5, "text_tower": 2e-5, "newline": 2e-5}
    assert (model["warmup_ratio"], model["weight_decay"]) == (0.03, 0.0)
    lora = {"rank": 128, "alpha": 256.0, "dropout": 0.05, "rank_stabilized": False, "dora": False}
    assert model["lora"] == (lora if form == "lora" else None)
    assert model["pool_site"] == "pre_projector"
    assert model["pooler"]["init_args"]["normalization"] == "eq3"
    assert model["aligner"]["init_args"].get("context") == "asymmetric"


@pytest.mark.parametrize("name", NAMES)
def test_tokens(name, capsys):
    for overlay, frames, kernel in (([], 32, [2, 3, 3]), (["-c", "recipes/overlays/long_video.yaml"], 64, [4, 3, 3])):
        config = parsed(capsys, "-c", f"recipes/experiments/{name}.yaml", *overlay)
        pooler = config["model"]["init_args"]["pooler"]["init_args"]
        assert pooler["kernel_size"] == kernel
        assert pooler["image_kernel_size"] == [1, 3, 3]
        if name in TOKENS:
            assert config["data"]["init_args"]["num_frames"] == frames
            side, tokens = TOKENS[name]
            assert WeightedPooler(tuple(kernel)).num_tokens((frames, side, side), "video") == tokens


def test_video_llava_sees_eight_frames(capsys):
    config = parsed(capsys, "-c", "recipes/experiments/sft_video_llava.yaml")
    assert config["data"]["init_args"]["num_frames"] == 8
    assert WeightedPooler((2, 3, 3)).num_tokens((8, 16, 16), "video") == 100


TEMPLATES = {
    "sft_internvl3": "internvl2_5",
    "sft_llava_next": "plain_v1",
    "sft_llava_video": "chatml",
    "sft_video_llava": "vicuna_v1",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_template_is_the_language_model_s(name):
    assert recipe(f"recipes/experiments/{name}.yaml")["data"]["init_args"]["template"] == TEMPLATES[name]


@pytest.mark.parametrize("path", [path for path in found("parts/backbones") if "/tiny_" not in path])
def test_a_revision_is_said(path):
    """A commit where one is known, so that a later upload changes nothing; else the branch in so many words."""
    lines = (ROOT / path).read_text().splitlines()
    (line,) = [line.strip() for line in lines if line.strip().startswith("revision:")]
    revision = line.removeprefix("revision:").split("#")[0].strip()
    assert (len(revision) == 40 and int(revision, 16)) or (revision == "main" and "#" in line)
