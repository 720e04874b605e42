import json
import shutil

import pytest
import torch

from ppl.batches import MediumInfo
from ppl.functional.space_to_depth import merge_relevance, space_to_depth
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.poolers.bilinear import BilinearPooler
from ppl.modules.poolers.none import NoPooler
from ppl.modules.poolers.separate_st import SeparateSTPooler
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.video_llm import VideoLLM
from tests.modules.backbones.test_loading import CLASSES, EACH, PARTS
from tests.modules.tiny import tiny_aligner
from tests.parity.native import ROWS, make_batch, template_of

SITES = ["pre_shuffle", "pre_projector", "post_projector"]
POOLERS = {
    "none": NoPooler,
    "windows": lambda: AveragePooler((2, 2, 2), None, (1, 2, 2)),
    "oblong windows": lambda: AveragePooler((2, 1, 2), None, (1, 2, 1)),
    "bilinear": BilinearPooler,
}
# A stack and its rows alone are multiplied by other kernels of the same library: fp32 rounding of values near 1.
CLOSE = {"atol": 2e-5, "rtol": 2e-5}


def tiny(name, **options):
    torch.manual_seed(0)
    return CLASSES[name](str(PARTS / name), initialize="random", **options)


@EACH
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("pooler", POOLERS)
def test_visual_tokens_are_counted_beforehand(name, backbone_class, site, pooler):
    model = VideoLLM(tiny(name), POOLERS[pooler](), pool_site=site).eval()
    batch = make_batch(model, ROWS["mixed"], template_of(model))
    with torch.no_grad():
        grids = model.encode(batch["pixel_values"], batch["media"])
        for grid, medium in zip(grids, batch["media"], strict=True):
            tokens = model.visual_tokens([grid], [medium], None)
            assert len(tokens) == model.num_visual_tokens(medium) == sum(model.token_groups(medium))
        assert model(batch).isfinite().all()


@EACH
def test_a_mixed_batch_is_each_row_alone(name, backbone_class):
    model = VideoLLM(tiny(name), WeightedPooler((2, 2, 2), None, (1, 2, 2)), tiny_aligner()).eval()
    together = make_batch(model, ROWS["mixed"], template_of(model))
    with torch.no_grad():
        logits = model(together)
        for row, media in enumerate(ROWS["mixed"]):
            alone = make_batch(model, [media], template_of(model), first=row)
            torch.testing.assert_close(logits[row, : alone["input_ids"].shape[1]], model(alone)[0], **CLOSE)


def test_internvl_is_pooled_before_or_after_its_blocks():
    backbone, pooler, aligner = tiny("tiny_internvl"), WeightedPooler((2, 2, 2), None, (1, 2, 2)), tiny_aligner()
    grid, prompt = torch.randn(4, 8, 8, 96), torch.randn(64)
    project = backbone.projector
    with torch.no_grad():
        relevance = aligner.relevance(grid, prompt)
        merged, shared = space_to_depth(grid, 2), merge_relevance(relevance, 2)
        expected = {
            "pre_shuffle": project(space_to_depth(pooler(grid, relevance, "video").view(2, 4, 4, 96), 2)).flatten(0, 2),
            "pre_projector": project(pooler(merged, shared, "video")),
            "post_projector": pooler(project(merged), shared, "video"),
        }
        for site, tokens in expected.items():
            model = VideoLLM(backbone, pooler, aligner, pool_site=site)
            torch.testing.assert_close(model.pool_and_project(grid, prompt, "video"), tokens, **CLOSE)
    assert {tokens.shape for tokens in expected.values()} == {(8, 128)}
    for one, other in [("pre_shuffle", "pre_projector"), ("pre_projector", "post_projector")]:
        assert (expected[one] - expected[other]).abs().max() > 1e-3


def test_without_blocks_the_first_two_sites_are_one():
    backbone, pooler = tiny("tiny_llava_next"), AveragePooler((2, 3, 2), None, (1, 1, 1))
    grid = torch.randn(4, 6, 6, 96)
    with torch.no_grad():
        first, second = (
            VideoLLM(backbone, pooler, pool_site=site).pool_and_project(grid, None, "video") for site in SITES[:2]
        )
    torch.testing.assert_close(first, second, **CLOSE)


def test_tokens_without_grid_cannot_be_merged_into_blocks():
    model = VideoLLM(tiny("tiny_internvl"), SeparateSTPooler(), tiny_aligner(), pool_site="pre_shuffle")
    with pytest.raises(
        ValueError, match=r"got SeparateSTPooler at pool_site: pre_shuffle.*expected .* pre_projector or"
    ):
        model.num_visual_tokens(MediumInfo(0, "video", 8, (48, 48), ""))


REAL = {
    # name: image size, patch size, options, site, tokens of 32 frames under (2, 3, 3)
    "LLaVA-NeXT": ("tiny_llava_next", 336, 14, {}, "pre_projector", 16 * 8 * 8),
    "LLaVA-Video, no newlines": ("tiny_llava_onevision", 384, 14, {"video_newlines": "none"}, "pre_projector", 1296),
    "LLaVA-Video": ("tiny_llava_onevision", 384, 14, {"video_newlines": "row"}, "post_projector", 16 * 9 * 10),
    "InternVL3 before blocks": ("tiny_internvl", 448, 14, {}, "pre_shuffle", 400),
    "InternVL3 after blocks": ("tiny_internvl", 448, 14, {}, "pre_projector", 400),
    "Video-LLaVA": ("tiny_video_llava", 224, 14, {}, "pre_projector", 16 * 5 * 5),
}


@pytest.mark.parametrize(("name", "size", "patch", "options", "site", "count"), REAL.values(), ids=REAL)
def test_the_papers_token_counts(tmp_path, name, size, patch, options, site, count):
    shutil.copytree(PARTS / name, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"] |= {"image_size": size, "patch_size": patch}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with torch.device("meta"):
        backbone = CLASSES[name](str(tmp_path), initialize="random", **options)
        model = VideoLLM(backbone, AveragePooler((2, 3, 3)), pool_site=site)
    assert model.num_visual_tokens(MediumInfo(0, "video", 32, (360, 640), "")) == count
