"""Frames stand in rows, in their order."""

import numpy as np
import torch
from PIL import Image

from ppl.serving.contact_sheet import contact_sheet, stacked


def test_each_frame_is_in_its_place():
    shades = torch.arange(10, dtype=torch.uint8) * 20
    frames = shades.view(10, 1, 1, 1).expand(10, 3, 30, 60).contiguous()
    sheet = contact_sheet(frames, [""] * 10)
    assert sheet.size == (8 * 256, 2 * 144)
    middles = [sheet.getpixel((column * 256 + 128, row * 144 + 64)) for row in range(2) for column in range(8)]
    assert [red for red, _, _ in middles] == [*shades.tolist(), *[255] * 6]


def test_captions_stand_under_their_frames():
    frames = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    sheet = np.asarray(contact_sheet(frames, ["", "0.25 s"]))
    assert (sheet[128:, :128] == 255).all()
    assert (sheet[128:, 128:] < 128).any()


def test_pictures_of_unlike_width_are_stacked():
    sheet = stacked([Image.new("RGB", (10, 5), "red"), Image.new("RGB", (20, 7), "blue")])
    assert sheet.size == (20, 12)
    assert [sheet.getpixel(at) for at in [(9, 4), (10, 4), (19, 5)]] == [(255, 0, 0), (255, 255, 255), (0, 0, 255)]
