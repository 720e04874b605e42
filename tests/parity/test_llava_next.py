"""transformers' own LLaVA-NeXT is the oracle: the same modules in the same order must give the same bits."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import LlavaNextImageProcessor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from ppl.datamodules.processing import Processor
from ppl.datamodules.records import PLACEHOLDER, MediumRef, Record, Turn
from ppl.modules.backbones.llava_next import LlavaNextBackbone
from ppl.modules.poolers.none import NoPooler
from ppl.modules.video_llm import VideoLLM
from tests.modules.tiny import BACKBONE_FOLDER, image, inputs_seen, make_batch, plain_model, tiny_backbone

QUESTION, ANSWER = "what colour is the square ?", "red"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return plain_model()


def normalised(frames):
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (frames.float() - mean) / std


@torch.no_grad()
def native_logits(model, batch):
    """What transformers makes of a batch; its images come stacked and padded to the largest number of views."""
    views = normalised(batch["pixel_values"]).split([medium.num_frames for medium in batch["media"]])
    pixels = torch.nn.utils.rnn.pad_sequence(list(views), batch_first=True) if views else None
    sizes = torch.tensor([medium.image_size for medium in batch["media"]]) if views else None
    return model.backbone.hf(
        input_ids=batch["input_ids"], pixel_values=pixels, image_sizes=sizes, attention_mask=batch["attention_mask"]
    ).logits


def assert_same_bits(model, batch):
    with torch.no_grad():
        ours = model(batch)
    assert torch.equal(ours, native_logits(model, batch))


@pytest.mark.parametrize(
    "size", [(48, 48), (48, 96), (96, 48), (96, 96), (30, 100), (200, 50), (97, 33), (7, 300), (300, 7), (1, 1)]
)
def test_an_image_of_any_shape(model, size):
    assert_same_bits(model, make_batch(model, ([image(*size)], QUESTION, ANSWER)))


@settings(max_examples=15)
@given(height=st.integers(1, 400), width=st.integers(1, 400))
def test_an_image_of_any_drawn_shape(model, height, width):
    assert_same_bits(model, make_batch(model, ([image(height, width)], QUESTION, ANSWER)))


def test_rows_of_unequal_length(model):
    batch = make_batch(
        model,
        ([image(40, 90)], QUESTION, ANSWER),
        ([image(90, 90)], "what is this ?", "a red square"),
        ([], "is there a red square ?", "no"),
        ([image(41, 90)], QUESTION, ANSWER),
    )
    assert batch["attention_mask"].sum(dim=1).unique().numel() > 2
    assert_same_bits(model, batch)


def test_text_alone(model):
    assert_same_bits(model, make_batch(model, ([], QUESTION, ANSWER), ([], "what ?", ANSWER)))


def folder_with(tmp_path, **changes):
    shutil.copytree(BACKBONE_FOLDER, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    return tmp_path


@pytest.mark.parametrize("layer", [-2, [-2, -1], 1])
def test_the_configured_layers_are_read(tmp_path, layer):
    model = VideoLLM(tiny_backbone(folder_with(tmp_path, vision_feature_layer=layer)), NoPooler()).eval()
    assert_same_bits(model, make_batch(model, ([image(50, 96)], QUESTION, ANSWER)))


@pytest.mark.parametrize("size", [(60, 131), (131, 60), (20, 20), (200, 33)])
def test_a_file_s_pixels_are_those_of_the_image_processor(model, tmp_path, size):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(256, size=(9, 9, 3), dtype=np.uint8))
    picture = coarse.resize(size[::-1], Image.Resampling.BILINEAR)
    picture.save(tmp_path / "picture.png")
    turns = [Turn("user", f"{PLACEHOLDER}{QUESTION}"), Turn("assistant", ANSWER)]
    record = Record("r", turns, [MediumRef("image", str(tmp_path / "picture.png"))])
    frames = Processor(model.input_spec).encode(record).frames
    with inputs_seen(model.backbone.vision_tower) as seen:
        model.backbone.encode_frames(frames)
    theirs = LlavaNextImageProcessor.from_pretrained(BACKBONE_FOLDER)(images=picture, return_tensors="pt")
    # Both round the resized pixels to whole grey levels, in the same library: 1e-5 is for the order of the arithmetic.
    # One grey level would be 1 / 255 / std = 0.014.
    torch.testing.assert_close(seen[0], theirs["pixel_values"][0], atol=1e-5, rtol=0)


def test_pixels_are_normalised_in_fp32_whatever_the_precision(model):
    frames = torch.randint(256, (2, 3, 48, 48), dtype=torch.uint8)
    half = tiny_backbone().to(torch.bfloat16)
    with inputs_seen(half.vision_tower) as seen:
        half.encode_frames(frames)
    assert torch.equal(seen[0], normalised(frames).to(torch.bfloat16))


@pytest.fixture
def saved(tmp_path):
    backbone = tiny_backbone()
    backbone.hf.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    return backbone, tmp_path


def test_a_saved_model_comes_back(saved):
    backbone, folder = saved
    before, after = (VideoLLM(b, NoPooler()).eval() for b in (backbone, LlavaNextBackbone(str(folder))))
    batch = make_batch(before, ([image(50, 96)], QUESTION, ANSWER))
    with torch.no_grad():
        assert torch.equal(before(batch), after(batch))
    names = ["image_token", "image_grid_pinpoints", "image_size", "grid_size", "max_length"]
    specs = [{name: getattr(m.input_spec, name) for name in names} for m in (before, after)]
    assert specs[0] == specs[1]


def test_weights_that_do_not_fit_are_listed(saved):
    _, folder = saved
    weights = load_file(folder / "model.safetensors")
    lost, bent = "layers.0.mlp.down_proj.weight", "layers.1.self_attn.q_proj.weight"
    lost_key, bent_key = (next(k for k in weights if k.endswith(f"language_model.{'model.'}{n}")) for n in (lost, bent))
    del weights[lost_key]
    weights[bent_key] = torch.zeros(3, 5)
    weights["stranger.weight"] = torch.zeros(2)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="do not match LlavaNextForConditionalGeneration") as raised:
        LlavaNextBackbone(str(folder))
    lines = str(raised.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["missing keys", "unexpected keys", "mismatched keys"]
    assert lines[0].endswith(f"language_model.{lost}")
    assert lines[1].endswith("stranger.weight")
    assert bent in lines[2]
    assert "[3, 5]" in lines[2]


def test_each_of_several_images_may_be_tiled():
    """transformers has no other way; PPLLaVA, and we by default, give each one view."""
    model = VideoLLM(tiny_backbone(tile_each_image=True), NoPooler()).eval()
    rows = ([image(40, 90), image(30, 30)], QUESTION, ANSWER), ([image(90, 41)], QUESTION, ANSWER)
    batch = make_batch(model, *rows)
    assert [medium.kind for medium in batch["media"]] == ["multi_image", "multi_image", "image"]
    assert all(medium.num_frames > 1 for medium in batch["media"])
    assert_same_bits(model, batch)


def test_untiled_images_are_one_view():
    model = VideoLLM(tiny_backbone(tile_images=False), NoPooler()).eval()
    batch = make_batch(model, ([image(50, 96)], QUESTION, ANSWER))
    assert [medium.num_frames for medium in batch["media"]] == [1]
    assert (batch["input_ids"] == model.backbone.image_token_id).sum() == 6 * 6 + 1
    assert model(batch).isfinite().all()
