"""The README's numbers and commands are those of the repository."""

import re
from pathlib import Path

import pytest

from benchmarks.readme import BLOCKS, marks, read

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", BLOCKS)
def test_the_numbers_are_those_of_the_committed_results(name):
    start, end = marks(name)
    assert README.split(start)[1].split(end)[0] == BLOCKS[name]()


def test_the_result_keeps_the_promised_margins():
    """Three seeds, 20 points, 8 times uniform, not lower after tuning, motion above chance."""
    report = read("embedded")
    seeds = list(report["seeds"].values())
    assert len(seeds) >= 3
    assert min(report["summary"]["weighted_minus_average_points"]) >= 20
    for seed in seeds:
        attention = seed["localisation"]
        assert attention["after"]["times_uniform"] >= 8
        assert attention["after"]["mass"] >= attention["before"]["mass"] - 0.005  # 400 questions: s.e. of about 0.005
        assert seed["accuracy"]["average_4x"]


def test_motion_is_above_chance():
    """A quarter is chance; 300 questions a seed: the mean of three has a standard error of 0.016."""
    seeds = list(read("embedded")["seeds"].values())
    motion = [seed["accuracy"]["weighted"]["motion"] for seed in seeds]
    assert sum(motion) / len(motion) > 0.25 + 3 * 0.016


def test_every_path_it_names_exists():
    for path in re.findall(r"(?:recipes|benchmarks|docs)/[\w/.-]+\.(?:yaml|json|md|png)", README):
        assert (ROOT / path).exists(), path


def test_every_make_target_it_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets
