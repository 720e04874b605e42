import pytest
import torch

from ppl.modules.poolers.top_k import TopKPooler
from ppl.modules.poolers.weighted import WeightedPooler


@pytest.mark.parametrize(
    ("kind", "size", "tokens"),
    [("video", (32, 24, 24), 256 + 1024), ("image", (5, 24, 24), 32 + 5 * 64), ("multi_image", (1, 24, 24), 32 + 64)],
)
def test_numbers_of_tokens(kind, size, tokens):
    pooler = TopKPooler()
    assert pooler.num_tokens(size, kind) == tokens
    assert pooler.output_grid(size, kind) is None
    assert pooler(torch.randn(*size, 3), torch.randn(size), kind).shape == (tokens, 3)


def test_kept_patches_come_first_and_are_missing_from_their_window():
    grid = torch.arange(1.0, 9.0).view(2, 2, 2, 1)
    relevance = torch.zeros(2, 2, 2)
    relevance[1, 0, 1] = relevance[0, 1, 1] = 2.0  # tokens 6 and 4
    pooled = TopKPooler(2, kernel_size=(1, 2, 2))(grid, relevance, "video").flatten()
    assert pooled[:2].tolist() == [4.0, 6.0]
    assert pooled[2:].tolist() == pytest.approx([(1 + 2 + 3) / 3, (5 + 7 + 8) / 3])


@pytest.mark.parametrize("k", [8, 99])
def test_windows_whose_patches_are_all_kept_are_their_means(k):
    grid = torch.randn(2, 2, 2, 3)
    pooled = TopKPooler(k, kernel_size=(1, 2, 2))(grid, torch.randn(2, 2, 2), "video")
    assert torch.equal(pooled[:8], grid.flatten(0, 2))
    torch.testing.assert_close(pooled[8:], grid.mean(dim=(1, 2)))


def test_each_kind_keeps_its_own_number():
    pooler = TopKPooler(1, 2, 3, (1, 2, 2), (1, 2, 2))
    assert [pooler.num_tokens((1, 4, 4), kind) for kind in ("video", "image", "multi_image")] == [5, 6, 7]
    grid, relevance = torch.randn(1, 4, 4, 5), torch.randn(1, 4, 4)
    best = relevance.flatten().topk(3).indices.sort().values
    assert torch.equal(pooler(grid, relevance, "multi_image")[:3], grid.flatten(0, 2)[best])
    assert TopKPooler(1, 2, kernel_size=(1, 2, 2)).num_tokens((1, 3, 3), "multi_image") == 3


def test_patches_of_all_views_compete():
    relevance = torch.zeros(3, 4, 4)
    relevance[2] = torch.arange(16.0).view(4, 4)
    grid = torch.randn(3, 4, 4, 5)
    pooled = TopKPooler(image_k=6, image_kernel_size=(1, 2, 2))(grid, relevance, "image")
    assert torch.equal(pooled[:6], grid[2].flatten(0, 1)[10:])


def test_with_nothing_kept_it_is_weighted_pooling():
    grid, relevance = torch.randn(4, 7, 6, 3).double(), torch.randn(4, 7, 6).double()
    for kind in ("video", "image"):
        pooled = TopKPooler(0, 0, edges="pad")(grid, relevance, kind)
        torch.testing.assert_close(pooled, WeightedPooler(edges="pad")(grid, relevance, kind), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": -1}, "got k=-1, expected patches to keep: use an integer >= 0"),
        ({"image_k": -1}, "got image_k=-1"),
        ({"multi_image_k": -1}, "got multi_image_k=-1"),
        ({"image_kernel_size": (2, 3, 3)}, r"got image_kernel_size=\(2, 3, 3\), expected 1 as its first"),
        ({"multi_image_kernel_size": (2, 3, 3)}, r"got multi_image_kernel_size=\(2, 3, 3\)"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TopKPooler(**options)
