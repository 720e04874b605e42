"""An aligner's own patches travel beside the backbone's, and are scored; widths that do not fit are refused."""

import pytest
import torch

from ppl.modules.aligner_patches import check_aligner, encode_frames, split_grid
from ppl.modules.aligners.clip import CLIPAligner
from ppl.modules.aligners.learned import LearnedAligner
from ppl.modules.backbones.video_llava import VideoLlavaBackbone
from ppl.modules.feature_cache import Caching, FeatureCache
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.positions import GridPositions
from ppl.modules.video_llm import VideoLLM
from tests.modules.tiny import CLIP_FOLDER, ROOT, image, inputs_seen, make_batch, tiny_aligner, tiny_backbone, video

CLIP = (f"local-dir:{CLIP_FOLDER}", None)


def own_aligner():
    return CLIPAligner(*CLIP, load_weights=False, own_tower=True)


def own_model(**options):
    return VideoLLM(tiny_backbone(), WeightedPooler((2, 3, 2), None, (1, 3, 2)), own_aligner(), **options).eval()


def batch_of(model, key=""):
    return make_batch(model, ([video(4, key)], "what colour ?", "red"), ([image(48, 48)], "where ?", "left"))


def test_both_patches_side_by_side():
    backbone, aligner = tiny_backbone(frames_per_forward=2), own_aligner()
    pixels = torch.randint(256, (3, 3, 48, 48), dtype=torch.uint8)
    with torch.no_grad():
        grid = encode_frames(backbone, aligner, pixels, "video")
        values, scored = split_grid(grid, aligner)
        assert torch.equal(values, backbone.encode_frames(pixels))
    torch.testing.assert_close(scored, aligner.encode_frames(pixels, (6, 6)))
    assert all(torch.equal(grid, part) for part in split_grid(grid, tiny_aligner()))
    assert torch.equal(split_grid(grid, None)[0], grid)


def test_relevance_reads_the_own_patches_and_pooling_the_backbone_s():
    model = own_model(positions=GridPositions(scale=2.0))
    batch = batch_of(model)
    with torch.no_grad():
        grid = model.encode(batch["pixel_values"], batch["media"])[0]
        prompt = model.embed_prompts(batch["prompt_ids"])[0]
        own = model.aligner.encode_frames(batch["pixel_values"][:4], (6, 6))
        relevance = model.aligner.relevance(own, prompt)
        torch.testing.assert_close(model.relevance(grid, prompt), relevance)
        placed = model.positions(model.backbone.encode_frames(batch["pixel_values"][:4]))
        expected = model.backbone.project(model.pooler(placed, relevance, "video"))
        torch.testing.assert_close(model.pool_and_project(grid, prompt, "video"), expected, atol=1e-5, rtol=1e-5)


def test_the_cache_keeps_both():
    model = own_model(cache=FeatureCache(Caching(0.01, storage="float32")))
    for parameter in model.backbone.vision_tower.parameters():
        parameter.requires_grad_(requires_grad=False)
    batch = batch_of(model, "clip")
    with torch.no_grad(), inputs_seen(model.aligner.tower) as seen:
        first = model(batch)
        assert torch.equal(model(batch), first)
    clip, shown = (medium.num_frames for medium in batch["media"])
    assert [len(pixels) for pixels in seen] == [clip + shown, shown], "the image has no key"
    assert model.aligner.vision_identity() in model.cache_key(batch["media"][0])


def test_a_wrong_width_says_what_to_change():
    aligner = LearnedAligner(80, *CLIP, load_weights=False)
    with pytest.raises(ValueError, match=r"got LearnedAligner for patches of 80 channels, expected 96 as LlavaNext"):
        VideoLLM(tiny_backbone(), WeightedPooler(), aligner)


def test_several_feature_layers_are_wider():
    backbone = tiny_backbone()
    backbone.hf.config.vision_feature_layer = [-2, -1]
    check_aligner(backbone, LearnedAligner(192, *CLIP, load_weights=False))
    with pytest.raises(ValueError, match="expected 192"):
        check_aligner(backbone, tiny_aligner())


def test_frames_with_class_tokens_are_no_grid():
    folder = str(ROOT / "recipes/parts/backbones/tiny_video_llava")
    backbone = VideoLlavaBackbone(folder, "random", video_class_token="keep")
    with pytest.raises(ValueError, match=r"tower of its own .* set video_class_token: drop"):
        check_aligner(backbone, own_aligner())
