from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, GotOcr2ImageProcessor, LlavaNextImageProcessor

from ppl.datamodules.images import anyres_views, read_image, resize_frames, square_frames, tile_image
from ppl.functional.anyres import aspect_canvases

PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


def photo(height: int, width: int) -> torch.Tensor:
    """Smooth colours with some noise: what bicubic resampling must agree on."""
    rows, columns = torch.linspace(0, 9, height)[:, None], torch.linspace(0, 7, width)
    waves = torch.stack([(rows + columns).sin(), (rows - columns).cos(), (rows * columns / 9).sin()])
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) - 0.5
    return (127 + 90 * waves + 40 * noise).clamp(0, 255).to(torch.uint8)


def test_png_is_read_as_it_is(tmp_path: Path) -> None:
    pixels = photo(20, 30)
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (8, 1), (3, 2), (6, 3)])
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int, turns: int) -> None:
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :16] = 255  # a white top left corner
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = np.rot90(stored, turns)
    assert np.abs(read_image(tmp_path / "a.jpg").permute(1, 2, 0).numpy().astype(int) - upright).max() < 30


def test_grey_and_sixteen_bit_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 77, np.uint8)).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png").unique().tolist() == [77]
    Image.fromarray(np.full((4, 5), 77 * 257, np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png").unique().tolist() == [77]


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").unique().tolist() == [255]


def test_errors_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png: no such image file; correct the path"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(ValueError, match=r"text\.png: not an image Pillow can read; convert it"):
        read_image(tmp_path / "text.png")
    Image.fromarray(photo(200, 200).permute(1, 2, 0).numpy()).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"cut\.png: image is damaged or cut short"):
        read_image(tmp_path / "cut.png")


def test_frames_are_squashed_to_squares() -> None:
    left_dark = torch.zeros(2, 3, 30, 60, dtype=torch.uint8)
    left_dark[..., 30:] = 200
    squares = resize_frames(left_dark, 16)
    assert squares.shape == (2, 3, 16, 16)
    assert squares[..., :6].max() == 0
    assert squares[..., 10:].min() == 200


@pytest.mark.parametrize("size", [(480, 640), (700, 700), (336, 1000), (300, 300), (901, 333), (37, 411)])
def test_views_are_those_of_transformers(size: tuple[int, int]) -> None:
    image = photo(*size)
    processor = LlavaNextImageProcessor(
        size={"height": 336, "width": 336},
        crop_size={"height": 336, "width": 336},
        image_grid_pinpoints=[list(pinpoint) for pinpoint in PINPOINTS],
        do_rescale=False,
        do_normalize=False,
    )
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    views = anyres_views(image, 336, PINPOINTS)
    assert views.shape == expected.shape
    assert (views.int() - expected.int()).abs().max() <= 1


def test_default_processor_squashes_the_base_view_too() -> None:
    """The released checkpoints say ``shortest_edge``; the base view is squashed all the same."""
    image = photo(200, 330)
    processor = LlavaNextImageProcessor(
        size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}, do_rescale=False, do_normalize=False
    )
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    assert (anyres_views(image, 336, PINPOINTS).int() - expected.int()).abs().max() <= 1


def test_without_pinpoints_there_is_only_the_base_view() -> None:
    image = photo(50, 80)
    assert torch.equal(anyres_views(image, 32, ()), resize_frames(image[None], 32))


def test_a_canvas_must_divide_into_tiles() -> None:
    with pytest.raises(ValueError, match=r"canvas \(500, 500\) does not divide into tiles of size=336"):
        anyres_views(photo(50, 80), 336, [(500, 500)])


@pytest.mark.parametrize("size", [(480, 640), (700, 700), (336, 1000), (300, 301), (37, 411), (411, 37)])
def test_crops_are_those_of_transformers(size: tuple[int, int]) -> None:
    image = photo(*size)
    processor = CLIPImageProcessor(
        size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}, do_rescale=False, do_normalize=False
    )
    expected = processor(image, return_tensors="pt")["pixel_values"]
    assert (square_frames(image[None], 224, "crop").int() - expected.int()).abs().max() <= 1


def test_bars_are_added_on_both_sides() -> None:
    wide = torch.full((1, 3, 10, 30), 200, dtype=torch.uint8)
    square = square_frames(wide, 30, "pad", (10, 20, 30))
    assert square.shape == (1, 3, 30, 30)
    assert (square[0, :, 10:20] == 200).all()
    for channel, colour in enumerate((10, 20, 30)):
        assert (square[0, channel, :10] == colour).all()
        assert (square[0, channel, 20:] == colour).all()
    turned = square_frames(wide.transpose(2, 3).contiguous(), 30, "pad", (10, 20, 30))
    assert torch.equal(turned.transpose(2, 3), square)
    assert torch.equal(square_frames(square, 30, "pad"), square)


def test_squashing_is_the_third_way() -> None:
    image = photo(30, 50)[None]
    assert torch.equal(square_frames(image, 16, "squash"), resize_frames(image, 16))


@pytest.mark.parametrize("size", [(480, 640), (700, 700), (448, 3000), (300, 300), (37, 411)])
@pytest.mark.parametrize("most", [12, 6, 1])
def test_views_by_shape_are_those_of_transformers(size: tuple[int, int], most: int) -> None:
    image = photo(*size)
    processor = GotOcr2ImageProcessor(
        size={"height": 448, "width": 448},
        crop_to_patches=True,
        max_patches=most,
        do_rescale=False,
        do_normalize=False,
    )
    expected = processor(image, return_tensors="pt")["pixel_values"]
    views = tile_image(image, 448, aspect_canvases(448, 1, most), "closest_aspect")
    assert views.shape == expected.shape
    assert (views.int() - expected.int()).abs().max() <= 1


def test_tilings_are_told_apart() -> None:
    image = photo(50, 80)
    assert torch.equal(tile_image(image, 16, [(16, 32)], "anyres"), anyres_views(image, 16, [(16, 32)]))
    whole_first, whole_last = (tile_image(image, 16, [(16, 32)], tiling) for tiling in ("anyres", "closest_aspect"))
    assert torch.equal(whole_first[0], whole_last[-1])
