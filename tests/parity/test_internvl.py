"""transformers' own InternVL is the oracle: the same modules in the same order must give the same bits."""

import json
import shutil

import pytest
import torch
from transformers import (
    AutoTokenizer,
    GotOcr2ImageProcessor,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
)
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ppl.datamodules.processing import DecodedMedium, Processor
from ppl.datamodules.records import MediumRef, Record, Turn
from ppl.datamodules.templates import TEMPLATES, segments
from ppl.modules.backbones.internvl import InternVLBackbone
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.poolers.none import NoPooler
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.video_llm import VideoLLM
from tests.modules.tiny import tiny_aligner
from tests.parity.native import (
    PARTS,
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
    video,
)

COLOURS = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
# The released preprocessor_config of OpenGVLab/InternVL3-8B-hf, for views of 48 pixels in place of 448; its processor
# adds crop_to_patches.
RELEASED = {"size": {"height": 48, "width": 48}, "image_mean": COLOURS[0], "image_std": COLOURS[1], "resample": 3}
IMAGES = GotOcr2ImageProcessor(**RELEASED, crop_to_patches=True, min_patches=1, max_patches=12)
VIDEOS = InternVLVideoProcessor(**RELEASED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(InternVLBackbone, "tiny_internvl", tmp_path_factory.mktemp("internvl"))


@pytest.fixture(scope="module")
def models(folder):
    return pair(InternVLBackbone, InternVLForConditionalGeneration, folder)


def inputs_of(models, batch):
    text, media = native_inputs(*models, batch)
    return text | ({"pixel_values": torch.cat([frames for _, frames in media])} if media else {})


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_logits(models, rows):
    batch = make_batch(models[0], rows, "internvl2_5")
    assert_same_bits(*models, batch, inputs_of(models, batch))


def test_videos_of_unequal_length(models):
    batch = make_batch(models[0], [[video(2)], [image(40, 40), video(5)]], "internvl2_5")
    assert_same_bits(*models, batch, inputs_of(models, batch))


def test_answers(models):
    batch = make_batch(models[0], ROWS["mixed"], "internvl2_5", prompts=True)
    assert_same_answers(*models, batch, inputs_of(models, batch))


LAYERS = {"second to last layer": (-2, True), "norm after the last": (-1, False)}


@pytest.mark.parametrize(("layer", "mean_pooling"), LAYERS.values(), ids=LAYERS)
def test_layers_and_norms(tmp_path, layer, mean_pooling):
    """Layer -1 is the tower's output, which has a norm where ``use_mean_pooling`` is false; -2 has none."""
    config = json.loads((PARTS / "tiny_internvl/config.json").read_text()) | {"vision_feature_layer": layer}
    config["vision_config"]["use_mean_pooling"] = mean_pooling
    shutil.copytree(PARTS / "tiny_internvl", tmp_path / "shape")
    (tmp_path / "shape/config.json").write_text(json.dumps(config))
    whole = saved(InternVLBackbone, tmp_path / "shape", tmp_path / "whole")
    models = pair(InternVLBackbone, InternVLForConditionalGeneration, whole)
    batch = make_batch(models[0], ROWS["mixed"], "internvl2_5")
    assert_same_bits(*models, batch, inputs_of(models, batch))


@pytest.mark.parametrize("size", [(300, 90), (90, 300), (120, 131), (48, 48), (40, 1000), (200, 200)])
def test_pixels_of_an_image(models, size):
    shown = picture(*size)
    theirs = IMAGES(images=[shown], return_tensors="pt")["pixel_values"]
    assert_same_pixels(models[0], [DecodedMedium("image", shown[None], "")], theirs, *COLOURS)


def test_pixels_of_several_images(models):
    shown = [picture(*size) for size in [(300, 90), (50, 50)]]
    theirs = IMAGES(images=shown, return_tensors="pt")["pixel_values"]
    assert_same_pixels(models[0], [DecodedMedium("image", image[None], "") for image in shown], theirs, *COLOURS)


@pytest.mark.parametrize("size", [(300, 90), (48, 48), (90, 120)])
def test_pixels_of_a_video(models, size):
    shown = torch.stack([picture(*size) for _ in range(2)])
    theirs = VIDEOS(videos=[shown], return_tensors="pt")["pixel_values_videos"][0]
    assert_same_pixels(models[0], [DecodedMedium("video", shown, "")], theirs, *COLOURS)


def text_of(model, rows):
    """The text before visual placeholders were repeated, special tokens included."""
    batch = make_batch(model, rows, "internvl2_5")
    words = model.backbone.tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
    shown = []
    for word in words:
        if word != "<IMG_CONTEXT>":
            shown.append(word)
        elif shown[-1].startswith("x"):
            shown[-1] = f"x{int(shown[-1][1:]) + 1}"
        else:
            shown.append("x1")
    return " ".join(shown)


def test_frames_are_labelled(folder):
    """The tiny tokenizer splits Frame1: in two and drops line breaks."""
    whole = VideoLLM(InternVLBackbone(str(folder)), NoPooler()).eval()
    assert "user Frame1 : <img> x16 </img> Frame2 : <img> x16 </img> what" in text_of(whole, [[video(2)]])
    pooled = VideoLLM(whole.backbone, AveragePooler((2, 2, 2))).eval()
    assert "user Frame1 : <img> x4 </img> Frame2 : <img> x4 </img> what" in text_of(pooled, [[video(4)]])
    plain = VideoLLM(InternVLBackbone(str(folder), label_frames=False), NoPooler()).eval()
    assert "user <img> x32 </img> what" in text_of(plain, [[video(2)]])
    assert "user <img> x48 </img> <img> x16 </img> what" in text_of(whole, [[image(48, 96), image(48, 48)]])


KERNELS = {"pre_shuffle": (2, 2, 2), "pre_projector": (2, 2, 2), "post_projector": (2, 3, 3)}


@pytest.mark.parametrize("site", KERNELS)
def test_guided_pooling_at_every_site(folder, site):
    """Counts agree with what comes out, and the text makes room for it."""
    pooler = WeightedPooler(KERNELS[site], None, (1, *KERNELS[site][1:]))
    model = VideoLLM(InternVLBackbone(str(folder)), pooler, tiny_aligner(), pool_site=site).eval()
    batch = make_batch(model, [[video(4)], [image(60, 131)]], "internvl2_5")
    with torch.no_grad():
        assert model(batch).isfinite().all()
    frames = {"pre_shuffle": 2 * 2 * 2, "pre_projector": 2 * 2 * 2, "post_projector": 2 * 1 * 1}[site]
    assert model.num_visual_tokens(batch["media"][0]) == frames
    assert model.token_groups(batch["media"][0]) == [frames // 2] * 2


def test_pooling_that_blocks_do_not_tile(folder):
    model = VideoLLM(InternVLBackbone(str(folder)), AveragePooler((1, 8, 3)), pool_site="pre_shuffle")
    with pytest.raises(ValueError, match="got a grid of 1 x 2 patches, expected sides that divide by 2"):
        make_batch(model, [[video()]], "internvl2_5")


def test_the_whole_sample_is_that_of_transformers_processor(models):
    """Ids and pixels of an image and a video in one conversation, from the text on."""
    tokenizer = AutoTokenizer.from_pretrained(
        PARTS / "tiny_internvl",
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    processor = InternVLProcessor(IMAGES, tokenizer, VIDEOS, image_seq_length=16)
    shown, clip = picture(60, 131), torch.stack([picture(40, 60) for _ in range(2)])
    turns = [Turn("user", "<media>\n<media>\nwhat colour is the square ?")]
    media = [DecodedMedium("image", shown[None], ""), DecodedMedium("video", clip, "")]
    record = Record("r", turns, [MediumRef(medium.kind, "") for medium in media])
    ours = Processor(models[0].input_spec, "internvl2_5").encode_decoded(record, media, for_generation=True)
    text = "".join(piece.text for piece in segments(turns, TEMPLATES["internvl2_5"]))
    text = text.replace("<media>", "<IMG_CONTEXT>", 1).replace("<media>", "<video>")
    theirs = processor(images=[shown], videos=[clip], text=text, return_tensors="pt")
    assert ours.input_ids.tolist() == theirs["input_ids"][0].tolist()
    assert_same_pixels(models[0], media[:1], theirs["pixel_values"][: ours.media[0].num_frames], *COLOURS)
    assert_same_pixels(models[0], media[1:], theirs["pixel_values"][-2:], *COLOURS)
