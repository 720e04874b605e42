from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextConfig, LlavaNextModel
from transformers.image_processing_utils import select_best_resolution
from transformers.models.got_ocr2.image_processing_got_ocr2 import (
    get_all_supported_aspect_ratios,
    get_optimal_tiled_canvas,
)
from transformers.models.llava_next.modeling_llava_next import unpad_image

from ppl.functional.anyres import (
    aspect_canvases,
    best_resolution,
    closest_aspect,
    num_packed_tokens,
    pack_tiles,
    shrunk_size,
    unpadded_size,
)

PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
SIDES = st.integers(1, 3000)
SIZES = st.tuples(SIDES, SIDES)


def tiles_of(image_size: tuple[int, int]) -> tuple[int, int]:
    height, width = best_resolution(image_size, PINPOINTS)
    return height // 336, width // 336


@pytest.fixture(scope="module")
def reference() -> LlavaNextModel:
    """A LLaVA-NeXT whose views are 8 x 8 tokens; its pinpoints are those above, in units of its own image size."""
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=336, patch_size=42
    )
    text = LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=16, pad_token_id=0
    )
    pinpoints = [list(pinpoint) for pinpoint in PINPOINTS]
    return LlavaNextModel(
        LlavaNextConfig(vision_config=vision, text_config=text, image_token_index=15, image_grid_pinpoints=pinpoints)
    )


def test_a_wide_image_gets_a_wide_canvas() -> None:
    assert best_resolution((300, 900), PINPOINTS) == (336, 1008)
    assert best_resolution((900, 300), PINPOINTS) == (1008, 336)


@given(SIZES)
def test_canvas_is_that_of_transformers(image_size: tuple[int, int]) -> None:
    expected = select_best_resolution(image_size, [list(pinpoint) for pinpoint in PINPOINTS])
    if expected is not None:  # None: so thin that no pixel is left at any scale
        assert best_resolution(image_size, PINPOINTS) == expected


@given(SIZES, st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_unpadding_is_that_of_transformers(image_size: tuple[int, int], grid: tuple[int, int]) -> None:
    numbered = torch.arange(grid[0] * grid[1]).reshape(1, *grid)
    top, left, height, width = unpadded_size(image_size, grid)
    ours = numbered[:, top : top + height, left : left + width]
    assert torch.equal(ours, unpad_image(numbered, image_size))


@pytest.mark.parametrize(
    ("image_size", "count"), [((480, 640), 268), ((700, 700), 336), ((336, 1000), 264), ((300, 300), 136)]
)
def test_counts_of_the_reference_implementation(image_size: tuple[int, int], count: int) -> None:
    assert num_packed_tokens(8, 8, image_size, tiles_of(image_size)) == count


@given(SIZES, st.integers(1, 9), st.integers(1, 9))
def test_counting_is_packing(image_size: tuple[int, int], h: int, w: int) -> None:
    tiles = tiles_of(image_size)
    views = torch.zeros(1 + tiles[0] * tiles[1], h, w, 2)
    assert num_packed_tokens(h, w, image_size, tiles) == len(pack_tiles(views, image_size, tiles, torch.ones(2)))


@pytest.mark.parametrize(
    "image_size", [(480, 640), (640, 480), (700, 700), (336, 1000), (1000, 336), (300, 300), (97, 801), (1, 2000)]
)
def test_packing_is_that_of_transformers(reference: LlavaNextModel, image_size: tuple[int, int]) -> None:
    tiles = tiles_of(image_size)
    views = torch.randn(1 + tiles[0] * tiles[1], 8, 8, 6)
    newline = torch.randn(6)
    (expected,), lengths = reference.pack_image_features(
        [views.flatten(1, 2)], torch.tensor([image_size]), "default", image_newline=newline
    )
    packed = pack_tiles(views, image_size, tiles, newline)
    assert torch.equal(packed, expected)
    assert num_packed_tokens(8, 8, image_size, tiles) == int(lengths[0])


def test_one_view_is_its_tokens_and_a_newline() -> None:
    views, newline = torch.randn(1, 2, 3, 4), torch.randn(4)
    packed = pack_tiles(views, (20, 30), None, newline)
    assert torch.equal(packed, torch.cat([views[0].flatten(0, 1), newline[None]]))
    assert num_packed_tokens(2, 3, (20, 30), None) == 7


def test_tiles_read_across_the_whole_canvas() -> None:
    views = torch.arange(3.0)[:, None, None, None].expand(3, 2, 2, 1)
    packed = pack_tiles(views, (10, 20), (1, 2), torch.tensor([9.0]))
    assert packed.flatten().tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 9, 1, 1, 2, 2, 9]


def test_errors_say_what_to_change() -> None:
    with pytest.raises(ValueError, match=r"got 4 views and tiles=\(2, 2\).*pass the \(rows, columns\)"):
        pack_tiles(torch.zeros(4, 2, 2, 1), (10, 10), (2, 2), torch.zeros(1))
    with pytest.raises(ValueError, match="pinpoints is empty"):
        best_resolution((10, 10), ())
    with pytest.raises(ValueError, match=r"image_size=\(0, 10\), expected two sides of at least 1"):
        unpadded_size((0, 10), (8, 8))


@given(st.integers(1, 12), st.integers(0, 6))
def test_canvases_by_shape_are_those_of_transformers(least: int, more: int) -> None:
    expected = get_all_supported_aspect_ratios(least, least + more)
    ours = aspect_canvases(448, least, least + more)
    assert [(width * 448, height * 448) for width, height in expected] == [(width, height) for height, width in ours]


@given(SIZES, st.sampled_from([(1, 12), (1, 6), (4, 9), (1, 1)]))
def test_the_canvas_of_the_closest_shape_is_that_of_transformers(
    image_size: tuple[int, int], tiles: tuple[int, int]
) -> None:
    columns, rows = get_optimal_tiled_canvas(image_size, (448, 448), *tiles)
    assert closest_aspect(image_size, 448, aspect_canvases(448, *tiles)) == (rows * 448, columns * 448)


def test_no_tiles_to_choose_from() -> None:
    with pytest.raises(ValueError, match=r"got min_tiles=1 and max_tiles=0, expected 1 <= min_tiles <= max_tiles"):
        aspect_canvases(448, 1, 0)
    with pytest.raises(ValueError, match="canvases is empty"):
        closest_aspect((10, 10), 448, [])


def test_large_grids_shrink() -> None:
    """LLaVA-OneVision: 36 tiles of 27 x 27 tokens hold twice the side that 9 tiles do."""
    assert shrunk_size((162, 162), 729, 9) == (81, 81)
    assert shrunk_size((81, 97), 729, 9) == (81, 97)  # a ratio of 1.094
    assert shrunk_size((81, 99), 729, 9) == (73, 89)  # of 1.106: 81 / 1.1055 = 73.3, 99 / 1.1055 = 89.5
    assert shrunk_size((162, 162), 729, None) == (162, 162)


@given(SIZES, st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_shrunk_tokens_are_counted_beforehand(image_size: tuple[int, int], h: int, w: int, most: int) -> None:
    tiles = tiles_of(image_size)
    views = torch.randn(1 + tiles[0] * tiles[1], h, w, 2)
    packed = pack_tiles(views, image_size, tiles, torch.zeros(2), most)
    assert len(packed) == num_packed_tokens(h, w, image_size, tiles, most)


def test_shrinking_is_bilinear() -> None:
    """A ramp of columns over 2 x 2 tiles of 4 x 4 tokens, halved: each token is the mean of the two it lies between."""
    ramp = torch.arange(8.0).expand(8, 8)
    tiles = ramp.reshape(2, 4, 2, 4).transpose(1, 2).reshape(4, 4, 4, 1)
    packed = pack_tiles(torch.cat([torch.zeros(1, 4, 4, 1), tiles]), (50, 50), (2, 2), torch.full((1,), -1.0), 1)
    rows = packed[16:, 0].reshape(4, 5)
    torch.testing.assert_close(rows, torch.tensor([0.5, 2.5, 4.5, 6.5, -1.0]).expand(4, 5))
