"""The heat map shows relevance where it lies."""

import numpy as np
import pytest
import torch

from ppl.serving.heatmap import heatmap_strip, overlay

GRAY = 100


def frames(count, height=48, width=48):
    return torch.full((count, 3, height, width), GRAY, dtype=torch.uint8)


def peaked(count, at, value=1.0):
    relevance = torch.full((count, 6, 6), 1e-4)
    relevance[at] = value
    return relevance


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
def test_the_sheet_holds_eight_frames_a_row(count, height, width, size):
    relevance = torch.rand(count, 6, 6)
    assert heatmap_strip(frames(count, height, width), relevance, "what ?").size == size


def test_a_frame_lies_at_its_place_on_the_sheet():
    """The tenth of ten frames is the second of the second row."""
    sheet = np.asarray(heatmap_strip(frames(10), peaked(10, (9, 3, 3)), "what ?")).astype(int).sum(axis=-1)
    second_row = sheet[22 + 192 :, : 2 * 192].reshape(6, 32, 12, 32).mean(axis=(1, 3))  # patch by patch
    assert np.unravel_index(second_row.argmax(), second_row.shape) == (3, 6 + 3)
