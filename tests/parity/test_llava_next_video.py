"""transformers' own LLaVA-NeXT-Video is the oracle: the same modules in the same order must give the same bits."""

import pytest
import torch
from transformers import (
    LlavaNextImageProcessor,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoVideoProcessor,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from ppl.datamodules.processing import DecodedMedium
from ppl.modules.backbones.llava_next_video import LlavaNextVideoBackbone
from ppl.modules.poolers.average import AveragePooler
from tests.parity.native import (
    ROWS,
    assert_same_answers,
    assert_same_bits,
    assert_same_pixels,
    image,
    make_batch,
    native_inputs,
    pair,
    picture,
    saved,
    tiled_inputs,
    video_inputs,
)

COLOURS = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
# The released preprocessor_config of llava-hf/LLaVA-NeXT-Video-7B-hf, for views of 48 pixels in place of 336.
RELEASED = {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}, "resample": 3}
IMAGES = LlavaNextImageProcessor(**RELEASED, image_grid_pinpoints=[[48, 96], [96, 48], [96, 96]])
VIDEOS = LlavaNextVideoVideoProcessor(**RELEASED, do_center_crop=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(LlavaNextVideoBackbone, "tiny_llava_next_video", tmp_path_factory.mktemp("next_video"))


@pytest.fixture(scope="module")
def models(folder):
    pooler = AveragePooler((1, 2, 2), None, (1, 1, 1))
    return pair(LlavaNextVideoBackbone, LlavaNextVideoForConditionalGeneration, folder, pooler, tile_each_image=True)


def inputs_of(models, batch):
    text, media = native_inputs(*models, batch)
    return text | tiled_inputs(media) | video_inputs(media)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_logits(models, rows):
    batch = make_batch(models[0], rows, "vicuna_v1")
    assert_same_bits(*models, batch, inputs_of(models, batch))


@pytest.mark.parametrize("size", [(48, 48), (300, 90), (7, 300), (97, 33)])
def test_images_of_any_shape(models, size):
    batch = make_batch(models[0], [[image(*size)]], "vicuna_v1")
    assert_same_bits(*models, batch, inputs_of(models, batch))


def test_answers(models):
    batch = make_batch(models[0], ROWS["mixed"], "vicuna_v1", prompts=True)
    assert_same_answers(*models, batch, inputs_of(models, batch))


def test_each_of_several_images_is_one_view_by_default(folder):
    backbone = LlavaNextVideoBackbone(str(folder))
    assert backbone.spec.pixels.tiled_kinds == ("image",)
    assert backbone.spec.layout("multi_image") == "none"


@pytest.mark.parametrize("size", [(300, 90), (120, 131), (48, 48)])
def test_pixels_of_an_image(models, size):
    shown = picture(*size)
    theirs = IMAGES(images=[shown], return_tensors="pt")["pixel_values"][0]
    assert_same_pixels(models[0], [DecodedMedium("image", shown[None], "")], theirs, *COLOURS)


@pytest.mark.parametrize("size", [(300, 90), (90, 301), (120, 131), (48, 48), (20, 33)])
def test_pixels_of_a_video(models, size):
    shown = torch.stack([picture(*size) for _ in range(2)])
    theirs = VIDEOS(videos=[shown], return_tensors="pt")["pixel_values_videos"][0]
    assert_same_pixels(models[0], [DecodedMedium("video", shown, "")], theirs, *COLOURS)
