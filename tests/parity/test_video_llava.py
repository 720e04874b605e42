"""transformers' own Video-LLaVA is the oracle: the same modules in the same order must give the same bits."""

import pytest
import torch
from transformers import VideoLlavaForConditionalGeneration, VideoLlavaImageProcessor, VideoLlavaVideoProcessor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from ppl.datamodules.processing import DecodedMedium
from ppl.modules.backbones.video_llava import VideoLlavaBackbone
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.poolers.none import NoPooler
from ppl.modules.video_llm import VideoLLM
from tests.modules.tiny import inputs_seen
from tests.parity.native import (
    ROWS,
    assert_same_answers,
    assert_same_bits,
    assert_same_pixels,
    make_batch,
    native_inputs,
    pair,
    picture,
    saved,
    video,
    video_inputs,
)

COLOURS = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
# The released preprocessor_config of LanguageBind/Video-LLaVA-7B-hf, for views of 48 pixels in place of 224.
RELEASED = {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}, "resample": 3}
IMAGES = VideoLlavaImageProcessor(**RELEASED)
VIDEOS = VideoLlavaVideoProcessor(**RELEASED, do_center_crop=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(VideoLlavaBackbone, "tiny_video_llava", tmp_path_factory.mktemp("video_llava"))


@pytest.fixture(scope="module")
def models(folder):
    return pair(VideoLlavaBackbone, VideoLlavaForConditionalGeneration, folder, video_class_token="keep")


def inputs_of(models, batch):
    text, media = native_inputs(*models, batch)
    images = [frames for medium, frames in media if medium.kind != "video"]
    return text | ({"pixel_values": torch.cat(images)} if images else {}) | video_inputs(media)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_logits(models, rows):
    batch = make_batch(models[0], rows, "vicuna_v1")
    assert_same_bits(*models, batch, inputs_of(models, batch))


def test_answers(models):
    batch = make_batch(models[0], ROWS["mixed"], "vicuna_v1", prompts=True)
    assert_same_answers(*models, batch, inputs_of(models, batch))


def test_the_original_s_token_count(models):
    """8 frames, each with its class token: 8 x 37 here, 8 x 257 = 2056 at 224 pixels."""
    batch = make_batch(models[0], [[video(8)]], "vicuna_v1")
    assert models[0].num_visual_tokens(batch["media"][0]) == 8 * (6 * 6 + 1)


def test_each_kind_has_its_tower(models):
    model = models[0]
    towers = model.backbone.hf.model.image_tower, model.backbone.hf.model.video_tower
    batch = make_batch(model, ROWS["mixed"], "vicuna_v1")
    with inputs_seen(towers[0]) as images, inputs_seen(towers[1]) as videos, torch.no_grad():
        model(batch)
    assert [len(pixels) for pixels in images] == [4]
    assert [len(pixels) for pixels in videos] == [6]
    parts = dict(model.backbone.parts())
    assert sum(p.numel() for p in parts["vision_tower"]) == sum(
        p.numel() for tower in towers for p in tower.parameters()
    )
    model.backbone.vision_tower.train()
    assert all(tower.training for tower in towers)
    model.backbone.vision_tower.eval()
    assert not any(tower.training for tower in towers)


def test_dropped_class_tokens_leave_the_patches(folder, models):
    dropped = VideoLLM(VideoLlavaBackbone(str(folder)), NoPooler()).eval()
    frames = torch.randint(256, (3, 3, 48, 48), dtype=torch.uint8)
    with torch.no_grad():
        grid, column = (m.backbone.encode_frames(frames, "video") for m in (dropped, models[0]))
    assert grid.shape == (3, 6, 6, 96)
    assert column.shape == (3, 37, 1, 96)
    assert torch.equal(grid.flatten(1, 2), column[:, 1:, 0])


def test_kept_class_tokens_cannot_be_pooled(folder):
    backbone = VideoLlavaBackbone(str(folder), video_class_token="keep")
    for kernel in [(2, 3, 3), (2, 1, 1), (1, 2, 1)]:
        with pytest.raises(ValueError, match=r"got AveragePooler .* video_class_token: drop .* or the pooler none"):
            VideoLLM(backbone, AveragePooler(kernel))


@pytest.mark.parametrize("size", [(300, 90), (90, 301), (120, 131), (48, 48), (20, 33)])
def test_pixels_of_an_image(models, size):
    shown = picture(*size)
    theirs = IMAGES(shown, return_tensors="pt", return_legacy_image_output=False)["pixel_values"]
    assert_same_pixels(models[0], [DecodedMedium("image", shown[None], "")], theirs, *COLOURS)


@pytest.mark.parametrize("size", [(300, 90), (90, 301), (120, 131), (48, 48), (20, 33)])
def test_pixels_of_a_video(models, size):
    shown = torch.stack([picture(*size) for _ in range(2)])
    theirs = VIDEOS(videos=[shown], return_tensors="pt")["pixel_values_videos"][0]
    assert_same_pixels(models[0], [DecodedMedium("video", shown, "")], theirs, *COLOURS)
