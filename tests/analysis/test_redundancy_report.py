"""The ranking, the warning and the histogram."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from ppl.analysis.question_pairs import Clip, QuestionPair
from ppl.analysis.redundancy_report import Certificate, draw_histogram, most_redundant, threshold_warning


def found(name, *similarities, threshold=0.5, seconds=10.0):
    pair = QuestionPair(name, f"{name} [bold]?", "yes", Clip(f"videos/{name}.mp4", None, None))
    count = sum(value > threshold for value in similarities)
    share = count / len(similarities)
    return Certificate(pair, torch.tensor(similarities), count, share, share * seconds)


CERTIFICATES = [found("a", 0.6, 0.7), found("b", 0.1, 0.6), found("c", 0.6, 0.2), found("d", 0.1, 0.2)]


def printed(table):
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_the_shortest_certificates_come_first_and_equal_ones_keep_their_order():
    text = printed(most_redundant(CERTIFICATES, 3))
    assert "the 3 most redundant of 4 question-answer pairs" in text
    rows = [line for line in text.splitlines() if ".mp4" in line]
    assert [[cell.strip() for cell in row.strip("│ ").split("│")] for row in rows] == [
        ["0.000", "0.0", "0/2", "d", "d [bold]?", "yes", "d.mp4"],
        ["0.500", "5.0", "1/2", "b", "b [bold]?", "yes", "b.mp4"],
        ["0.500", "5.0", "1/2", "c", "c [bold]?", "yes", "c.mp4"],
    ]


def test_no_warning_where_a_single_frame_is_relevant():
    assert threshold_warning([found("d", 0.1, 0.2), found("b", 0.6)], 0.5, relative=False) == ""


def test_the_warning_tells_the_quantiles_of_all_similarities():
    values = np.linspace(0.1, 0.3, 21).astype(np.float32)  # 0.10, 0.11 .. 0.30: quantiles by hand
    certificates = [found("a", *values[:15].tolist()), found("b", *values[15:].tolist())]
    text = threshold_warning(certificates, 0.5, relative=False)
    assert "no frame of any video exceeds the threshold 0.5" in text
    quantiles = "least 0.100, 5 % 0.110, 25 % 0.150, median 0.200, 75 % 0.250, 95 % 0.290, most 0.300"
    assert quantiles in text
    assert text.endswith("choose a --threshold among these, or --relative")
    assert threshold_warning(certificates, 1.0, relative=True).endswith("lower --threshold")


def test_the_histogram_is_a_png_of_the_certificates(tmp_path):
    """Pairs at both ends draw bars at both ends: blue in the first and last bin only."""
    draw_histogram(tmp_path / "a", CERTIFICATES[:1] + CERTIFICATES[3:])
    with Image.open(tmp_path / "a") as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    blue = np.flatnonzero(((pixels - [31, 119, 180]) ** 2).sum(axis=-1).min(axis=0) < 50)
    width = blue.max() - blue.min() + 1
    middle = (blue > blue.min() + 0.06 * width) & (blue < blue.max() - 0.06 * width)
    assert not middle.any()


@pytest.mark.parametrize("similarities", [(0.123456, 0.6), (0.2,)])
def test_a_line_holds_plain_values(similarities):
    line = found("a", *similarities).as_dict()
    assert line["similarities"] == [round(value, 4) for value in similarities]
    assert (line["num_frames"], line["video"], line["start"]) == (len(similarities), "videos/a.mp4", None)
