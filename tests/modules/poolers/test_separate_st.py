import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ppl.modules.poolers.separate_st import SeparateSTPooler
from ppl.modules.poolers.weighted import WeightedPooler


def inputs(*size):
    return torch.randn(*size, 5, dtype=torch.float64), 2 * torch.randn(*size, dtype=torch.float64)


def test_the_papers_count():
    assert SeparateSTPooler().num_tokens((32, 24, 24), "video") == 608
    assert SeparateSTPooler().output_grid((32, 24, 24), "video") is None


def test_frames_and_places_by_their_definition():
    grid, relevance = inputs(4, 3, 2)
    density = relevance.flatten().softmax(0).view_as(relevance) * 24
    weighted = grid * density[..., None]
    expected = torch.cat([weighted.mean(dim=(1, 2)), weighted.mean(dim=0).flatten(0, 1)])  # time first, then space
    torch.testing.assert_close(SeparateSTPooler()(grid, relevance, "video"), expected)


@settings(max_examples=25)
@given(
    size=st.tuples(*[st.integers(1, 6)] * 3),
    temporal=st.integers(1, 3),
    spatial=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    edges=st.sampled_from(["drop", "pad"]),
)
def test_larger_windows_are_torchs_averages_of_weighted_tokens(size, temporal, spatial, edges):
    pooler = SeparateSTPooler(temporal_kernel_size=temporal, spatial_kernel_size=spatial, edges=edges)
    grid, relevance = inputs(*size)
    kernels = [(temporal, *size[1:]), (size[0], *spatial)]
    if edges == "drop" and any(k > n for kernel in kernels for k, n in zip(kernel, size, strict=True)):
        with pytest.raises(ValueError, match=r"does not fit a grid of \(t, h, w\)"):
            pooler.output_grid(size, "video")
        return
    density = relevance.flatten().softmax(0).view_as(relevance) * relevance.numel()
    # what a kernel reaches beyond the grid is not there: torch refuses such kernels
    kernels = [tuple(min(k, n) for k, n in zip(kernel, size, strict=True)) for kernel in kernels]
    options = {"ceil_mode": edges == "pad", "count_include_pad": False}
    weighted = (grid * density[..., None]).movedim(-1, 0)
    expected = [F.avg_pool3d(weighted, kernel, **options).flatten(1).movedim(0, -1) for kernel in kernels]
    pooled = pooler(grid, relevance, "video")
    torch.testing.assert_close(pooled, torch.cat(expected))
    assert len(pooled) == pooler.num_tokens(size, "video")


@pytest.mark.parametrize("normalization", ["window", "official"])
def test_other_normalizations_keep_no_contrast_between_windows(normalization):
    """Their weights sum to one in each window, so that equal tokens stay what they are."""
    relevance = 5 * torch.randn(4, 6, 6)
    pooled = SeparateSTPooler(normalization)(torch.ones(4, 6, 6, 2), relevance, "video")
    torch.testing.assert_close(pooled, torch.ones(4 + 36, 2))


@pytest.mark.parametrize("kind", ["image", "multi_image"])
def test_images_are_pooled_as_by_the_weighted_pooler(kind):
    options = {"image_kernel_size": (1, 2, 3), "multi_image_kernel_size": (1, 3, 2), "edges": "pad"}
    separate, weighted = (cls(**options, normalization="window") for cls in (SeparateSTPooler, WeightedPooler))
    grid, relevance = inputs(2, 7, 7)
    assert torch.equal(separate(grid, relevance, kind), weighted(grid, relevance, kind))
    assert separate.output_grid((2, 7, 7), kind) == weighted.output_grid((2, 7, 7), kind)


def test_images_are_never_merged():
    with pytest.raises(ValueError, match=r"got image_kernel_size=\(2, 3, 3\), expected 1 as its first"):
        SeparateSTPooler(image_kernel_size=(2, 3, 3))
