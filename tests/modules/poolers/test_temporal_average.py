import pytest
import torch

from ppl.modules.poolers.temporal_average import TemporalAveragePooler


def test_a_clip_becomes_the_mean_of_its_frames():
    grid = torch.randn(3, 5, 2, 4, 6, dtype=torch.float64)
    pooled = TemporalAveragePooler()(grid, None, "video")
    assert pooled.shape == (3, 8, 6)
    for place in range(8):
        mean = sum(grid[:, frame, place // 4, place % 4] for frame in range(5)) / 5
        torch.testing.assert_close(pooled[:, place], mean, atol=1e-12, rtol=1e-12)  # order of summation, in double


@pytest.mark.parametrize("frames", [1, 32, 64])
def test_tokens_of_the_paper_s_baseline(frames):
    """PPLLaVA, Table 3: LLaVA-Next (Average Pooling), context length 576."""
    pooler = TemporalAveragePooler()
    assert pooler.num_tokens((frames, 24, 24), "video") == 576
    assert pooler.output_grid((frames, 24, 24), "video") == (1, 24, 24)


@pytest.mark.parametrize("kind", ["image", "multi_image"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_images_are_left_as_they_are(kind, dtype):
    grid = torch.randn(3, 4, 5, 6).to(dtype)
    assert torch.equal(TemporalAveragePooler()(grid, None, kind), grid.flatten(0, 2))


def test_images_may_have_windows():
    pooler = TemporalAveragePooler((1, 2, 2), (1, 3, 3))
    grid = torch.arange(36.0).view(1, 6, 6, 1)
    assert pooler.num_tokens((1, 6, 6), "image") == 9
    assert pooler.num_tokens((1, 6, 6), "multi_image") == 4
    assert pooler(grid, None, "image")[0].item() == (0 + 1 + 6 + 7) / 4
    assert pooler(grid, None, "multi_image")[0].item() == (0 + 1 + 2 + 6 + 7 + 8 + 12 + 13 + 14) / 9


def test_patches_that_fill_no_window_of_an_image():
    grid = torch.arange(5.0).view(1, 1, 5, 1)
    window = (1, 1, 2)
    for edges, expected in (("drop", [0.5, 2.5]), ("pad", [0.5, 2.5, 4.0])):
        pooler = TemporalAveragePooler(window, edges=edges)
        assert pooler(grid, None, "image").flatten().tolist() == expected
        assert pooler.num_tokens((1, 1, 5), "image") == len(expected)
        assert pooler.num_tokens((7, 1, 5), "video") == 5
    with pytest.raises(ValueError, match=r"leaves \(0, 0, 1\) \(t, h, w\) of a grid of \(1, 1, 5\) over"):
        TemporalAveragePooler(window, edges="error")(grid, None, "image")


@pytest.mark.parametrize("name", ["image_kernel_size", "multi_image_kernel_size"])
def test_views_are_not_merged(name):
    with pytest.raises(ValueError, match=rf"got {name}=\(2, 1, 1\), expected 1 as its first"):
        TemporalAveragePooler(**{name: (2, 1, 1)})
