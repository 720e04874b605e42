import pytest
import torch

from ppl.modules.poolers.adaptive_average import AdaptiveAveragePooler


@pytest.mark.parametrize("size", [(32, 24, 24), (8, 24, 24), (17, 27, 27)])
def test_a_clip_is_pooled_by_torch_s_adaptive_pooling(size):
    grid = torch.randn(2, *size, 3)
    pooler = AdaptiveAveragePooler()
    pooled = pooler(grid, None, "video")
    assert pooled.shape == (2, pooler.num_tokens(size, "video"), 3) == (2, 16 * 12 * 12, 3)
    expected = torch.nn.AdaptiveAvgPool3d((16, 12, 12))(grid.movedim(-1, 1)).movedim(1, -1).flatten(1, 3)
    torch.testing.assert_close(pooled, expected, atol=1e-6, rtol=1e-6)  # fp32: order of summation of 27 tokens at most


@pytest.mark.parametrize(("kind", "side"), [("image", 4), ("multi_image", 2)])
def test_views_stay_as_many_as_they_are(kind, side):
    pooler = AdaptiveAveragePooler((2, 3, 3), (4, 4), (2, 2))
    grid = torch.randn(5, 6, 7, 3)
    assert pooler.output_grid((5, 6, 7), kind) == (5, side, side)
    expected = torch.nn.AdaptiveAvgPool2d(side)(grid.movedim(-1, 1)).movedim(1, -1).flatten(0, 2)
    torch.testing.assert_close(pooler(grid, None, kind), expected, atol=1e-6, rtol=1e-6)


def test_several_images_are_pooled_as_one_unless_told_otherwise():
    assert AdaptiveAveragePooler(image_output_size=(5, 6)).output_grid((2, 9, 9), "multi_image") == (2, 5, 6)


def test_a_size_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"got image_output_size=\(0, 4\), expected integers >= 1"):
        AdaptiveAveragePooler(image_output_size=(0, 4))
