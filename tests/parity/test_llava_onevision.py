"""transformers' own LLaVA-OneVision is the oracle: the same modules in the same order must give the same bits."""

import pytest
import torch
from transformers import (
    AutoTokenizer,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
)

from ppl.datamodules.media_text import render_medium
from ppl.datamodules.processing import DecodedMedium, Processor
from ppl.datamodules.records import MediumRef, Record, Turn
from ppl.datamodules.templates import TEMPLATES, segments
from ppl.functional.newlines import num_with_newlines
from ppl.modules.backbones.llava_onevision import LlavaOnevisionBackbone
from ppl.modules.poolers.bilinear import BilinearPooler
from ppl.modules.video_llm import VideoLLM
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
    video,
    video_inputs,
)

HALF = (0.5, 0.5, 0.5)
# The released preprocessor_config of llava-hf/llava-onevision-qwen2-7b-ov-hf, for views of 56 pixels in place of 384.
RELEASED = {"size": {"height": 56, "width": 56}, "image_mean": HALF, "image_std": HALF, "resample": 3}
IMAGES = LlavaOnevisionImageProcessor(
    **RELEASED, image_grid_pinpoints=[[56 * rows, 56 * columns] for rows in (1, 2, 3) for columns in (1, 2, 3)]
)
VIDEOS = LlavaOnevisionVideoProcessor(**RELEASED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(LlavaOnevisionBackbone, "tiny_llava_onevision", tmp_path_factory.mktemp("onevision"))


@pytest.fixture(scope="module")
def models(folder):
    return pair(
        LlavaOnevisionBackbone, LlavaOnevisionForConditionalGeneration, folder, BilinearPooler(), "post_projector"
    )


def inputs_of(models, batch):
    text, media = native_inputs(*models, batch)
    rows = [medium.sample for medium, _ in media if medium.kind != "video"]
    numbers = {"batch_num_images": torch.tensor([rows.count(row) for row in sorted(set(rows))])} if rows else {}
    return text | tiled_inputs(media) | video_inputs(media) | numbers


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_logits(models, rows):
    batch = make_batch(models[0], rows, "chatml")
    assert_same_bits(*models, batch, inputs_of(models, batch))


@pytest.mark.parametrize("size", [(56, 56), (300, 90), (90, 300), (7, 300), (168, 168), (500, 490), (1, 1), (250, 401)])
def test_images_of_any_shape(models, size):
    batch = make_batch(models[0], [[image(*size)]], "chatml")
    assert_same_bits(*models, batch, inputs_of(models, batch))


def test_answers(models):
    batch = make_batch(models[0], ROWS["mixed"], "chatml", prompts=True)
    assert_same_answers(*models, batch, inputs_of(models, batch))


SIZES = [(300, 90), (90, 300), (120, 131), (56, 56)]


@pytest.mark.parametrize("size", SIZES)
def test_pixels_of_an_image(models, size):
    shown = picture(*size)
    theirs = IMAGES(images=[shown], return_tensors="pt")["pixel_values"][0]
    assert_same_pixels(models[0], [DecodedMedium("image", shown[None], "")], theirs, HALF, HALF)


def test_pixels_of_several_images(models):
    shown = [picture(*size) for size in SIZES]
    theirs = IMAGES(images=[shown], return_tensors="pt")["pixel_values"].flatten(0, 1)
    assert_same_pixels(models[0], [DecodedMedium("image", image[None], "") for image in shown], theirs, HALF, HALF)


@pytest.mark.parametrize("size", SIZES)
def test_pixels_of_a_video(models, size):
    shown = torch.stack([picture(*size) for _ in range(2)])
    theirs = VIDEOS(videos=[shown], return_tensors="pt")["pixel_values_videos"][0]
    assert_same_pixels(models[0], [DecodedMedium("video", shown, "")], theirs, HALF, HALF)


@pytest.mark.parametrize(("newlines", "count"), [("none", 48), ("end", 49), ("frame", 51), ("row", 60)])
def test_newlines_of_a_video_by_hand(folder, newlines, count):
    """3 frames of 7 x 7 patches become 3 x 4 x 4 tokens."""
    backbone = LlavaOnevisionBackbone(str(folder), video_newlines=newlines)
    model = VideoLLM(backbone, BilinearPooler(), pool_site="post_projector").eval()
    batch = make_batch(model, [[video()]], "chatml")
    [medium] = batch["media"]
    with torch.no_grad():
        [grid] = model.encode(batch["pixel_values"], [medium])
        tokens = model.visual_tokens([grid], [medium], None)
        rows = model.pool_and_project(grid, None, "video").reshape(3, 4, 4, -1)
    newline, length = backbone.hf.model.image_newline, {"none": 48, "end": 48, "frame": 16, "row": 4}[newlines]
    expected = []
    for number, token in enumerate(rows.flatten(0, 2), 1):
        expected += [token, newline] if number % length == 0 and newlines != "none" else [token]
    assert model.num_visual_tokens(medium) == len(tokens) == len(expected) == count
    torch.testing.assert_close(tokens, torch.stack(expected))


def test_llava_video_s_token_budget():
    """27 x 27 patches, 64 frames: 13 440 tokens with a newline after each row (14 rows of 14, and 14 newlines)."""
    assert 64 * num_with_newlines(14 * 14, (1, 14, 14), "row") == 64 * 210 == 13_440
    assert num_with_newlines(32 * 196, (32, 14, 14), "end") == 6_273


def test_llava_video_s_time_instruction(folder):
    backbone = LlavaOnevisionBackbone(str(folder), video_newlines="row", time_instruction=True)
    text = render_medium(backbone.spec.media_text, "<image>", 1, (0.0, 1.0234, 2.5), 3.456, is_video=True)
    assert text == (
        "<image>\nThe video lasts for 3.46 seconds, and 3 frames are uniformly sampled from it. These frames are "
        "located at 0.00s,1.02s,2.50s.Please answer the following questions related to this video."
    )


COUNTED = {
    "image": [image(60, 131)],
    "large image": [image(500, 490)],
    "thin image": [image(20, 400)],
    "several images": [image(60, 131), image(50, 50)],
    "video": [video(5)],
}


@pytest.mark.parametrize("media", COUNTED.values(), ids=COUNTED)
def test_ids_are_those_of_transformers_processor(models, folder, media):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = LlavaOnevisionProcessor(
        IMAGES,
        tokenizer,
        VIDEOS,
        49,
        "full",
        image_token="<image>",
        video_token="<video>",
        vision_aspect_ratio="anyres_max_4",
    )
    turns = [Turn("user", "<media>" * len(media) + "\nwhat colour is the square ?")]
    record = Record("r", turns, [MediumRef(medium.kind, "") for medium in media])
    ours = Processor(models[0].input_spec, "chatml").encode_decoded(record, media, for_generation=True)
    text = "".join(piece.text for piece in segments(turns, TEMPLATES["chatml"]))
    if media[0].kind == "video":
        theirs = processor(videos=[media[0].frames], text=text.replace("<media>", "<video>"), return_tensors="pt")
    else:
        shown = [[medium.frames[0] for medium in media]]
        theirs = processor(images=shown, text=text.replace("<media>", "<image>"), return_tensors="pt")
    ids = theirs["input_ids"][0].clone()
    ids[ids == models[1].config.video_token_id] = models[1].config.image_token_id
    assert ours.input_ids.tolist() == ids.tolist()
