import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.internvl.modeling_internvl import InternVLModel

from ppl.functional.space_to_depth import merge_relevance, merged_size, space_to_depth

SIDES = st.integers(1, 4)


@given(SIDES, SIDES, SIDES, st.sampled_from([1, 2]))
def test_blocks_are_transformers_pixel_shuffle(t, h, w, block):
    grid = torch.randn(t, h * block, w * block, 3)
    expected = InternVLModel.pixel_shuffle(None, grid, scale_factor=1 / block)
    assert torch.equal(space_to_depth(grid, block), expected)
    assert merged_size((t, h * block, w * block), block) == expected.shape[:3]


def test_channels_of_a_block_come_row_by_row():
    grid = torch.arange(36.0).view(1, 1, 6, 6, 1)
    assert space_to_depth(grid, 3)[0, 0, 0, 1].tolist() == [3, 4, 5, 9, 10, 11, 15, 16, 17]


def test_grids_that_are_views_are_read_right():
    """transformers' own fails on a transposed grid."""
    grid = torch.randn(2, 4, 6, 3).transpose(1, 2)
    assert torch.equal(space_to_depth(grid, 2), space_to_depth(grid.contiguous(), 2))


@given(SIDES, SIDES, SIDES, st.sampled_from([1, 2, 3]))
def test_a_softmax_of_merged_relevance_sums_the_patches_softmax(t, h, w, block):
    relevance = 10 * torch.randn(t, h * block, w * block)
    shares = relevance.flatten().softmax(dim=0).view_as(relevance)
    expected = torch.zeros(t, h, w)
    for frame in range(t):
        for row in range(h * block):
            for column in range(w * block):
                expected[frame, row // block, column // block] += shares[frame, row, column]
    merged = merge_relevance(relevance, block).flatten().softmax(dim=0).view(t, h, w)
    torch.testing.assert_close(merged, expected, atol=1e-5, rtol=1e-4)  # exponentials of fp32 logits near 30


def test_blocks_must_tile_the_grid():
    with pytest.raises(ValueError, match="got a grid of 5 x 4 patches, expected sides that divide by 2"):
        space_to_depth(torch.zeros(1, 5, 4, 1), 2)
    with pytest.raises(ValueError, match=r"pool to such a grid, or after merging \(pool_site: pre_projector\)"):
        merged_size((1, 4, 3), 2)
