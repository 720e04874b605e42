import argparse
import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from ppl.cli import build_parser, main
from ppl.conversion.convert import detect, run_convert
from ppl.modules.backbones.llava_onevision import LlavaOnevisionBackbone
from tests.conversion.originals import save_llava_video, save_video_llava, save_vision_tower


@pytest.fixture
def original(tmp_path):
    save_vision_tower(tmp_path / "siglip", 3)
    return save_llava_video(tmp_path / "original")


def arguments(tmp_path, *more):
    places = [str(tmp_path / "original"), str(tmp_path / "new"), "--vision-tower", str(tmp_path / "siglip")]
    return ["convert", *places, *more]


def convert(tmp_path, *more):
    run_convert(build_parser().parse_args(arguments(tmp_path, *more)))


def test_the_command(tmp_path, original, capsys):
    main(arguments(tmp_path))
    told = "".join(capsys.readouterr().err.split("\n"))
    assert f"llava-video: {len(original)} tensors written to {tmp_path / 'new'}" in told
    assert f"use it with --model.backbone={tmp_path / 'new' / 'backbone.yaml'}" in told
    backbone = LlavaOnevisionBackbone(str(tmp_path / "new"), dtype="bfloat16")
    assert torch.equal(backbone.hf.lm_head.weight, original["lm_head.weight"])
    report = json.loads((tmp_path / "new" / "conversion.json").read_text())
    assert (report["kind"], report["revision"]) == ("llava-video", None)
    assert report["source"] == str(tmp_path / "original")
    assert report["tokenizer"] == {"source": str(tmp_path / "original"), "revision": None}
    assert report["vision_tower"] == {"source": str(tmp_path / "siglip"), "revision": None}


@pytest.mark.usefixtures("original")
def test_a_tokenizer_and_a_tower_of_the_hub_are_recorded_with_their_commits(tmp_path, monkeypatch):
    """The cache's own layout, offline."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for repository, commit, folder in (("some/words", "a" * 40, "original"), ("some/tower", "b" * 40, "siglip")):
        held = tmp_path / "cache" / f"models--{repository.replace('/', '--')}"
        (held / "refs").mkdir(parents=True)
        (held / "refs" / "main").write_text(commit)
        shutil.copytree(tmp_path / folder, held / "snapshots" / commit)
    places = [str(tmp_path / "original"), str(tmp_path / "new")]
    main(["convert", *places, "--tokenizer", "some/words", "--vision-tower", "some/tower"])
    report = json.loads((tmp_path / "new" / "conversion.json").read_text())
    assert report["tokenizer"] == {"source": "some/words", "revision": "a" * 40}
    assert report["vision_tower"] == {"source": "some/tower", "revision": "b" * 40}


def test_what_is_dropped_is_told(tmp_path, capsys):
    save_vision_tower(tmp_path / "siglip", 3)
    save_video_llava(tmp_path / "original")
    convert(tmp_path)
    told = capsys.readouterr().err
    assert "33 dropped: temporal attention, which transformers' class lacks: --temporal-attention keeps it" in told
    assert "3 dropped: computed from the config" in told
    convert(tmp_path, "--temporal-attention", "--overwrite")
    assert "temporal" not in capsys.readouterr().err


def test_what_is_assumed_is_told(tmp_path, capsys):
    save_vision_tower(tmp_path / "siglip", 3)
    save_llava_video(tmp_path / "original", mm_newline_position=None)
    convert(tmp_path)
    told = "assumed mm_newline_position grid: config.json has none, with add_time_instruction"
    assert told in capsys.readouterr().err


def test_precision(tmp_path, original):
    convert(tmp_path, "--dtype", "float32")
    written = load_file(tmp_path / "new" / "model.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {torch.float32}
    assert torch.equal(written["lm_head.weight"], original["lm_head.weight"].float())


def test_an_existing_target_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "new").mkdir()
    with pytest.raises(ValueError, match="exists and is no converted model"):
        convert(tmp_path, "--overwrite")


def test_the_kind_told_by_names():
    assert detect(["lm_head.weight", "model.mm_projector.0.weight"]) == "llava-video"
    both = ["model.mm_projector.0.weight", "model.video_tower.video_tower.pre_layrnorm.bias"]
    assert detect(both) == "video-llava"
    assert detect(["multi_modal_projector.clip_text_model.final_layer_norm.bias"]) == "ppllava"
    message = r"no original checkpoint .*\(lm_head.weight …\), expected some of .*model.mm_projector.\* \(llava-video\)"
    with pytest.raises(ValueError, match=message):
        detect(["lm_head.weight"])


def test_the_path_s_name_tells_nothing(tmp_path, capsys):
    save_vision_tower(tmp_path / "siglip", 3)
    save_video_llava(tmp_path / "LLaVA-Video-7B-Qwen2-ppllava")
    options = argparse.Namespace(
        **vars(build_parser().parse_args(arguments(tmp_path)))
        | {"source": str(tmp_path / "LLaVA-Video-7B-Qwen2-ppllava")}
    )
    run_convert(options)
    assert capsys.readouterr().err.count("video-llava: ") == 1


@pytest.mark.usefixtures("original")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--from", "video-llava"],
            r"got --from video-llava for a checkpoint of the kind llava-video \(it has model.mm",
        ),
        (["--temporal-attention"], r"got --temporal-attention for llava-video, expected it for video-llava"),
    ],
)
def test_wrong_options(tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        convert(tmp_path, *more)


def test_another_kind_than_the_one_given_is_named(tmp_path):
    save_vision_tower(tmp_path / "siglip", 3)
    save_video_llava(tmp_path / "original")
    message = (
        r"got --from llava-video for a checkpoint of the kind video-llava \(it has model.video_tower.video_tower.\*\), "
        r"expected --from video-llava, or none"
    )
    with pytest.raises(ValueError, match=message):
        convert(tmp_path, "--from", "llava-video")
    convert(tmp_path, "--from", "video-llava")
    assert json.loads((tmp_path / "new" / "conversion.json").read_text())["kind"] == "video-llava"


def test_a_mistake_is_told_in_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match=r"^ppl convert: got '.*original', but found no such file or folder"):
        main(["convert", str(tmp_path / "original"), str(tmp_path / "new")])


def test_help_teaches(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["convert", "--help"])
    told = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "Every tensor is accounted for" in told
    assert "--model.backbone=TARGET/backbone.yaml" in told
