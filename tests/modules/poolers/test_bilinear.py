import pytest
import torch
from torch.nn import functional as F

from ppl.modules.poolers.bilinear import BilinearPooler


@pytest.mark.parametrize(("side", "tokens"), [(24, 144), (27, 196)])
def test_tokens_a_frame(side, tokens):
    """LLaVA-Video's 27 x 27 patches leave 14 x 14."""
    assert BilinearPooler().num_tokens((32, side, side), "video") == 32 * tokens


def test_frames_are_resized_each_alone():
    grid = torch.randn(2, 3, 7, 6, 5)
    pooled = BilinearPooler()(grid, None, "video")
    assert pooled.shape == (2, 3 * 4 * 3, 5)
    for clip in range(2):
        for frame in range(3):
            channels_first = grid[clip, frame].permute(2, 0, 1)[None].contiguous()
            expected = F.interpolate(channels_first, size=(4, 3), mode="bilinear")[0].flatten(1).T
            assert torch.equal(pooled[clip, 12 * frame : 12 * (frame + 1)], expected)


@pytest.mark.parametrize("kind", ["image", "multi_image"])
def test_images_are_left_as_they_are(kind):
    grid = torch.randn(3, 4, 5, 6)
    assert torch.equal(BilinearPooler()(grid, None, kind), grid.flatten(0, 2))


def test_each_kind_has_its_stride():
    pooler = BilinearPooler(2, 3, 4)
    sizes = [pooler.output_grid((2, 12, 13), kind) for kind in ("video", "image", "multi_image")]
    assert sizes == [(2, 6, 7), (2, 4, 5), (2, 3, 4)]


@pytest.mark.parametrize("name", ["stride", "image_stride", "multi_image_stride"])
def test_a_stride_of_zero_is_refused_when_it_is_set(name):
    with pytest.raises(ValueError, match=f"got {name}=0, expected rows that become one: use an integer >= 1"):
        BilinearPooler(**{name: 0})
