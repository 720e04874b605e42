import pytest
import torch

from ppl.batches import MediumInfo
from ppl.modules.feature_cache import Caching, FeatureCache
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.poolers.none import NoPooler
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.positions import GridPositions
from ppl.modules.video_llm import VideoLLM
from tests.modules.tiny import (
    guided_model,
    image,
    inputs_seen,
    make_batch,
    plain_model,
    tiny_aligner,
    tiny_backbone,
    video,
)

SITES = ["pre_projector", "post_projector"]
# A stack and its rows alone are multiplied by other kernels of the same library: fp32 rounding of values near 1.
CLOSE = {"atol": 2e-5, "rtol": 2e-5}


def conversations():
    return [
        ([video(4)], "what colour is the square ?", "red"),
        ([image(40, 90)], "is there a red circle in the image ?", "no"),
        ([], "which way ?", "left"),
        ([image(50, 50), image(60, 20)], "what is this ?", "a red circle"),
        ([video(4), image(20, 30)], "when does the blue ring appear ?", "early"),
        ([image(90, 40)], "what shape is the red object ?", "square"),
        ([video(2)], "what shape is the red object ?", "square"),
    ]


def logits_of(model, *rows):
    batch = make_batch(model, *rows)
    with torch.no_grad():
        logits = model(batch)
    return [row[mask.bool()] for row, mask in zip(logits, batch["attention_mask"], strict=True)]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("positions", [None, GridPositions()], ids=["bare", "positions"])
def test_a_mixed_batch_is_each_row_alone(site, positions):
    """Padding, grouping by shape, and which prompt goes with which medium: all must leave no trace."""
    model = guided_model(pool_site=site, positions=positions)
    rows = conversations()
    together = logits_of(model, *rows)
    for row, logits in zip(rows, together, strict=True):
        torch.testing.assert_close(logits, logits_of(model, row)[0], **CLOSE)


def test_a_medium_is_pooled_under_its_own_row_s_prompt():
    model = guided_model()
    clip = video(4)
    first, second = ([clip], "what colour is the square ?", "red"), ([clip], "which way does the ring move ?", "left")
    batch = make_batch(model, first, second)
    with torch.no_grad():
        grids = model.encode(batch["pixel_values"], batch["media"])
        prompts = model.embed_prompts(batch["prompt_ids"])
        tokens = model.visual_tokens(grids, batch["media"], prompts).chunk(2)
        swapped = model.visual_tokens(grids, batch["media"], prompts.flip(0)).chunk(2)
    assert (tokens[0] - tokens[1]).abs().max() > 1e-5
    torch.testing.assert_close(tokens[0], swapped[1])
    torch.testing.assert_close(tokens[1], swapped[0])


POOLERS = {
    "none": NoPooler,
    "average": lambda: AveragePooler((2, 3, 2), None, (1, 2, 3)),
    "strided": lambda: AveragePooler((2, 3, 3), (1, 2, 1), (1, 3, 2), (1, 1, 2)),
}


@pytest.mark.parametrize("pooler", POOLERS)
@pytest.mark.parametrize("size", [(48, 48), (48, 96), (96, 40), (100, 100), (7, 300), (300, 7), (33, 64), None])
def test_visual_tokens_are_counted_beforehand(pooler, size):
    model = VideoLLM(tiny_backbone(), POOLERS[pooler]()).eval()
    media = [image(*size)] if size else [video(3), image(9, 9), image(50, 80)]
    batch = make_batch(model, (media, "what ?", "red"))
    with torch.no_grad():
        grids = model.encode(batch["pixel_values"], batch["media"])
        for grid, medium in zip(grids, batch["media"], strict=True):
            assert len(model.visual_tokens([grid], [medium], None)) == model.num_visual_tokens(medium)


def test_the_count_of_a_tiled_image_by_hand():
    """48 x 96 canvas of 6 x 12 patches pooled by (3, 2): a 2 x 3 base view, then 2 rows of 6 and a newline."""
    model = VideoLLM(tiny_backbone(), AveragePooler(image_kernel_size=(1, 3, 2)))
    assert model.num_visual_tokens(MediumInfo(0, "image", 3, (48, 96), "")) == 2 * 3 + 2 * (6 + 1)
    assert model.num_visual_tokens(MediumInfo(0, "multi_image", 1, (48, 96), "")) == 2 * 3
    assert model.num_visual_tokens(MediumInfo(0, "video", 8, (48, 96), "")) == 4 * 2 * 2


def test_the_site_of_pooling_matters_to_a_projector_that_bends():
    torch.manual_seed(0)
    before = guided_model()
    after = VideoLLM(before.backbone, before.pooler, before.aligner, pool_site="post_projector").eval()
    row = ([video(4)], "what ?", "red")
    batch = make_batch(before, row)
    with torch.no_grad():
        grid = before.encode(batch["pixel_values"], batch["media"])[0]
        prompt = before.embed_prompts(batch["prompt_ids"])[0]
        relevance = before.aligner.relevance(grid, prompt)
        project, pool = before.backbone.projector, before.pooler
        expected = project(pool(grid, relevance, "video")), pool(project(grid), relevance, "video")
        got = [m.pool_and_project(grid, prompt, "video") for m in (before, after)]
    torch.testing.assert_close(got[0], expected[0], **CLOSE)
    torch.testing.assert_close(got[1], expected[1], **CLOSE)
    assert (got[0] - got[1]).abs().max() > 1e-3


def test_the_tower_runs_once_a_batch_and_never_for_text():
    model = plain_model()
    with inputs_seen(model.backbone.vision_tower) as seen:
        logits_of(model, *conversations())
        assert [len(pixels) for pixels in seen] == [4 + 3 + 2 + (4 + 3) + 3 + 2]
        logits_of(model, ([], "what ?", "red"))
        assert len(seen) == 1


def test_cached_media_are_not_encoded_again():
    model = plain_model(cache=FeatureCache(Caching(1.0, storage="float32")))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    known, other, nameless = video(4, key="known"), image(50, 96, key="other"), video(2)
    with inputs_seen(model.backbone.vision_tower) as seen:
        fresh = logits_of(model, ([known], "what ?", "red"), ([nameless], "what ?", "red"))
        mixed = logits_of(model, ([other], "what ?", "red"), ([known], "what ?", "red"))
        again = logits_of(model, ([known], "what ?", "red"), ([other], "what ?", "red"))
    assert [len(pixels) for pixels in seen] == [4 + 2, 5]
    torch.testing.assert_close(mixed[1], fresh[0], **CLOSE)
    torch.testing.assert_close(again, [mixed[1], mixed[0]], **CLOSE)


def test_media_whose_features_are_kept_need_no_pixels(tmp_path):
    caching = Caching(folder=str(tmp_path), storage="float32")
    model = plain_model(cache=FeatureCache(caching))
    model.backbone.vision_tower.requires_grad_(False)
    kept, other, again = (MediumInfo(0, "video", 4, (48, 48), key) for key in ("a", "", "a"))
    pixels = torch.randint(256, (8, 3, model.backbone.image_size, model.backbone.image_size), dtype=torch.uint8)
    expected = model.encode(pixels, [kept, other])
    without = [kept._replace(has_pixels=False), other, again._replace(has_pixels=False)]
    model.cache = FeatureCache(caching)
    for got, grid in zip(model.encode(pixels[4:], without), [*expected, expected[0]], strict=True):
        torch.testing.assert_close(got, grid, rtol=0, atol=1e-5)  # encoded alone, and beside another
    [file] = tmp_path.rglob("*.safetensors")
    file.unlink()
    with pytest.raises(ValueError, match=r"got no features of 'a', expected them in the cache's folder, where they"):
        model.encode(pixels[4:], without)


def test_towers_with_other_weights_do_not_share_cached_grids(tmp_path):
    """Runs of an ablation share a folder; each seed's alignment gave its tower other weights."""
    torch.manual_seed(0)
    shown = video(4, "clip")
    grids = []
    for _ in range(2):
        cache = FeatureCache(Caching(folder=str(tmp_path), storage="float32"))
        model = plain_model(cache=cache)  # random weights, drawn anew
        model.requires_grad_(False)
        batch = make_batch(model, ([shown], "what ?", "red"))
        for _ in range(2):
            [grid] = model.encode(batch["pixel_values"], batch["media"])
            grids.append(grid)
    assert torch.equal(grids[0], grids[1])
    assert torch.equal(grids[2], grids[3])
    assert not torch.equal(grids[0], grids[2])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_a_cache_of_a_tower_that_trains_is_refused():
    model = plain_model(cache=FeatureCache(Caching(1.0)))
    with pytest.raises(ValueError, match=r"cache with a vision tower that trains.*set cache: null"):
        logits_of(model, ([video(2, key="k")], "what ?", "red"))


def test_guided_pooling_needs_an_aligner():
    with pytest.raises(ValueError, match=r"got WeightedPooler without an aligner, expected .* set model.aligner"):
        VideoLLM(tiny_backbone(), WeightedPooler())
    with pytest.raises(ValueError, match="got a model without an aligner"):
        plain_model().relevance(torch.zeros(1, 6, 6, 96), torch.zeros(64))


def test_the_aligner_is_not_run_for_poolers_that_do_not_read_relevance():
    model = plain_model(aligner=tiny_aligner())
    with inputs_seen(model.aligner.text_tower) as seen:
        logits_of(model, ([video(2)], "what ?", "red"))
    assert seen == []


@pytest.mark.parametrize("site", SITES)
def test_gradients_reach_the_text_tower_through_the_weights(site):
    model = guided_model(pool_site=site)
    batch = make_batch(model, ([video(4)], "what colour is the square ?", "red"))
    model(batch).square().mean().backward()
    tower = model.aligner.text_tower
    for weight in (tower.positions, tower.encoder.text_projection, model.aligner.visual_projection.weight):
        assert weight.grad is not None
        assert weight.grad.any()
    used = tower.positions.grad.abs().sum(dim=1) > 0
    assert used.tolist() == [i < batch["prompt_ids"].shape[1] for i in range(248)]
    assert all(p.grad is not None and p.grad.any() for p in model.backbone.projector.parameters())


def test_positions_move_the_pooled_tokens_and_not_the_relevance():
    bare = guided_model()
    placed = VideoLLM(bare.backbone, bare.pooler, bare.aligner, GridPositions(scale=2.0)).eval()
    seen = []
    bare.pooler.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[:2]))
    batch = make_batch(bare, ([video(4)], "what ?", "red"))
    with torch.no_grad():
        tokens = [
            model.visual_tokens(
                model.encode(batch["pixel_values"], batch["media"]),
                batch["media"],
                model.embed_prompts(batch["prompt_ids"]),
            )
            for model in (bare, placed)
        ]
    (grid, relevance), (moved, same_relevance) = seen
    assert torch.equal(relevance, same_relevance)
    assert (tokens[0] - tokens[1]).abs().max() > 1e-2
    added = moved - grid
    magnitude = grid.square().mean().sqrt()
    assert added.square().mean().sqrt().item() == pytest.approx(2 * magnitude.item(), rel=0.2)  # a random projection


def test_files_describe_the_model_s_parts():
    names = set(guided_model().files())
    assert {"backbone/config.json", "backbone/tokenizer.json", "aligner/open_clip_config.json"} <= names
    assert not any(name.startswith("aligner/") for name in plain_model().files())


def test_a_half_precision_backbone_goes_with_an_fp32_aligner():
    model = VideoLLM(tiny_backbone(dtype="bfloat16"), WeightedPooler((2, 3, 3)), tiny_aligner()).eval()
    batch = make_batch(model, ([video(4)], "what colour is the circle ?", "red"))
    assert model(batch).dtype == torch.bfloat16
    model(batch).float().sum().backward()
    assert all(p.grad is not None for p in model.aligner.text_tower.encoder.transformer.parameters())
