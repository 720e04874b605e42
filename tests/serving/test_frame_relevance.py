"""Relevance over whole frames, against relevance drawn as pixels and taken through the very resizing of frames."""

import pytest
import torch

from ppl.batches import MediumInfo, PixelFormat
from ppl.datamodules.images import square_frames, tile_image
from ppl.serving.frame_relevance import frame_relevance
from tests.modules.test_generation import backbone_model

SIDE = 6
"""Patches of a side."""


def spec(**pixels):
    inputs = backbone_model("tiny_llava_next").input_spec
    object.__setattr__(inputs, "pixels", PixelFormat(**pixels))
    return inputs


def spot(height, width, row, column):
    """A picture of squares of 8 pixels, one of which is white."""
    picture = torch.zeros(1, 3, height * 8, width * 8, dtype=torch.uint8)
    picture[:, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 255
    return picture


def seen(views):
    """What a tower whose patches tell brightness would make of views of 48 pixels."""
    return views.float().mean(dim=1).unflatten(-1, (SIDE, 8)).unflatten(-3, (SIDE, 8)).mean(dim=(-3, -1)) / 255


def brightest(relevance):
    return divmod(int(relevance[0].argmax()), relevance.shape[2])


@pytest.mark.parametrize("mode", ["squash", "pad", "crop"])
@pytest.mark.parametrize(("height", "width"), [(6, 12), (12, 6), (6, 6)])
def test_the_spot_is_where_it_is_in_the_picture(mode, height, width):
    """In the middle, which is there in all modes; cells are as large as patches, so pad shows half of a side's."""
    row, column = height // 2, width // 2 - 1
    picture = spot(height, width, row, column)
    info = MediumInfo(0, "video", 1, (height * 8, width * 8), "")
    found = frame_relevance(seen(square_frames(picture, 48, mode)), info, spec(video=mode))
    rows, columns = found.shape[1:]
    at_row, at_column = brightest(found)
    assert abs((at_row + 0.5) / rows - (row + 0.5) / height) <= 0.5 / min(rows, height)
    assert abs((at_column + 0.5) / columns - (column + 0.5) / width) <= 0.5 / min(columns, width)
    cells = {"squash": (6, 6), "pad": (height * 6 // max(height, width), width * 6 // max(height, width))}
    assert (rows, columns) == cells.get(mode, (height, width))


def test_what_is_cut_off_a_frame_has_none_and_the_rest_is_untouched():
    relevance = torch.rand(2, SIDE, SIDE)
    found = frame_relevance(relevance, MediumInfo(0, "video", 2, (48, 96), ""), spec(video="crop"))
    assert found.shape == (2, 6, 12)
    torch.testing.assert_close(found[..., 3:9], relevance)
    assert max(found[..., :3].max(), found[..., 9:].max()) < 1e-6


def test_bars_are_cut_off():
    relevance = torch.rand(2, SIDE, SIDE)
    found = frame_relevance(relevance, MediumInfo(0, "multi_image", 2, (96, 192), ""), spec(multi_image="pad"))
    torch.testing.assert_close(found, relevance[:, 1:4] * 0.5 + relevance[:, 2:5] * 0.5)  # 1.5 patches are bars


@pytest.mark.parametrize("tiling", ["anyres", "closest_aspect"])
@pytest.mark.parametrize(("height", "width"), [(6, 12), (12, 6), (6, 6)])
def test_of_a_tiled_image_it_is_the_view_of_the_whole(tiling, height, width):
    """Views of 48 pixels; a spot in the second tile is in no other tile, and where it belongs in the whole."""
    row, column = height - 2, width - 2
    canvases = ((48, 48), (48, 96), (96, 48))
    views = tile_image(spot(height, width, row, column)[0], 48, canvases, tiling)
    info = MediumInfo(0, "image", len(views), (height * 8, width * 8), "")
    inputs = spec(tiling=tiling)
    object.__setattr__(inputs, "image_grid_pinpoints", canvases)
    found = frame_relevance(seen(views), info, inputs)
    assert found.shape == (1, SIDE, SIDE)
    assert brightest(found) == (row * 6 // height, column * 6 // width)


def test_without_canvases_an_image_is_made_square_as_its_kind():
    inputs = spec(image="pad")
    object.__setattr__(inputs, "image_grid_pinpoints", ())
    assert frame_relevance(torch.rand(1, SIDE, SIDE), MediumInfo(0, "image", 1, (48, 96), ""), inputs).shape == (
        1,
        3,
        6,
    )
