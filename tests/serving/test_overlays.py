"""The heat map shows relevance where it lies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFont

from ppl.serving.overlays import heatmap_pictures, heatmap_sheet, heatmap_strip, overlay, wrapped

GRAY = 100


def frames(count, height=48, width=48):
    return torch.full((count, 3, height, width), GRAY, dtype=torch.uint8)


def peaked(count, at, value=1.0):
    relevance = torch.full((count, 6, 6), 1e-4)
    relevance[at] = value
    return relevance


def by_patch(pixels):
    """Mean brightness of squares of 32 pixels: the patches of a frame drawn 192 pixels high."""
    height, width = pixels.shape[0] // 32, pixels.shape[1] // 32
    return pixels.astype(int).sum(axis=-1).reshape(height, 32, width, 32).mean(axis=(1, 3))


def brightest(pixels):
    patches = by_patch(pixels)
    return np.unravel_index(patches.argmax(), patches.shape)


@pytest.mark.parametrize("at", [(0, 0, 0), (1, 5, 2), (2, 3, 5)])
def test_the_brightest_place_is_the_most_relevant_patch(at):
    heat = overlay(frames(3), peaked(3, at)).sum(axis=-1)
    frame, row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert (frame, row // 8, column // 8) == at


def test_all_frames_share_one_scale():
    relevance = peaked(2, (0, 2, 2)) + peaked(2, (1, 2, 2), 0.2)
    heat = overlay(frames(2), relevance).sum(axis=-1)
    assert heat[0].max() > 1.5 * heat[1].max()


def test_irrelevant_places_keep_a_darkened_picture():
    shown = overlay(frames(1), peaked(1, (0, 0, 0)))[0, 40:, 40:]
    assert np.abs(shown.astype(int) - 0.6 * GRAY).max() < 5


def test_no_relevance_anywhere_is_no_division_by_zero():
    assert (overlay(frames(1), torch.zeros(1, 6, 6)) == int(0.6 * GRAY)).all()


@pytest.mark.parametrize(
    ("count", "height", "width", "size"),
    [(1, 48, 48, (192, 214)), (3, 96, 48, (3 * 96, 214)), (8, 48, 48, (8 * 192, 214)), (9, 48, 96, (8 * 384, 406))],
)
def test_the_strip_holds_eight_frames_a_row(count, height, width, size):
    relevance = torch.rand(count, 6, 6)
    assert heatmap_strip(frames(count, height, width), relevance, "what ?").size == size


def test_a_frame_lies_at_its_place_on_the_strip():
    """The tenth of ten frames is the second of the second row."""
    strip = np.asarray(heatmap_strip(frames(10), peaked(10, (9, 3, 3)), "what ?"))
    assert brightest(strip[22 + 192 :, : 2 * 192]) == (3, 6 + 3)


def test_a_sheet_is_one_strip_under_the_other():
    relevances, questions = [peaked(3, (0, 1, 1)), peaked(3, (2, 4, 5))], ["which way ?", "what colour ?"]
    sheet = np.asarray(heatmap_sheet(frames(3), relevances, questions))
    assert sheet.shape == (2 * 214, 3 * 192, 3)
    assert brightest(sheet[22:214]) == (1, 1)
    assert brightest(sheet[214 + 22 :]) == (4, 12 + 5)
    assert (sheet[:22] != sheet[214 : 214 + 22]).any(), "each strip has its own caption"


def test_each_frame_is_a_picture_with_a_column_per_question():
    """Half a frame (96), then columns of 192 after gaps of 4; the second frame's patches are the brightest."""
    relevances = [peaked(2, (1, 1, 1)), peaked(2, (1, 4, 5)), peaked(2, (0, 3, 3))]
    pictures = [np.asarray(p) for p in heatmap_pictures(frames(2), relevances, ["what ?", "where ?", "who ?"])]
    assert [picture.shape for picture in pictures] == [(22 + 192, 96 + 3 * 196, 3)] * 2
    first, second = pictures
    assert brightest(second[22:, 100:292]) == (1, 1)
    assert brightest(second[22:, 296:488]) == (4, 5)
    assert brightest(first[22:, 492:684]) == (3, 3)
    assert (second[22 : 22 + 96, :96] == GRAY).all(), "the small frame has no overlay"
    assert (second[22 + 96 :, :96] == 255).all()


@pytest.mark.parametrize(("height", "width"), [(48, 47), (49, 30), (480, 7)])
@pytest.mark.parametrize("question", ["what ?", "what colour is the square that moves to the left ?"])
def test_pictures_have_even_sides(height, width, question):
    relevances = [torch.rand(1, 6, 6)] * 2
    (picture,) = heatmap_pictures(frames(1, height, width), relevances, [question, "what ?"])
    assert picture.width % 2 == picture.height % 2 == 0


def test_a_long_question_takes_more_lines_and_moves_the_frames_down():
    question = "what colour is the square that moves to the left ?"
    lines = len(wrapped(question, 192 - 8))
    assert lines > 1
    strip = heatmap_strip(frames(1), peaked(1, (0, 2, 3)), question)
    assert strip.size == (192, 22 + 14 * (lines - 1) + 192)
    assert brightest(np.asarray(strip)[-192:]) == (2, 3)
    (picture,) = heatmap_pictures(frames(1), [peaked(1, (0, 2, 3))] * 2, ["what ?", question])
    shown = np.asarray(picture)
    assert brightest(shown[-192:, 100:292]) == brightest(shown[-192:, 296:488]) == (2, 3)


@settings(deadline=None, max_examples=25)
@given(st.text(st.sampled_from("abc W.\n"), max_size=60), st.integers(20, 200))
def test_wrapping_keeps_every_letter_within_the_width(text, width):
    lines = wrapped(text, width)
    assert "".join(lines).replace(" ", "") == "".join(text.split())
    assert max(map(ImageFont.load_default().getlength, lines)) <= width
