import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl.evaluation.intervals import difference_interval, mean_interval

UNITS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcdef")), min_size=2, max_size=40)


@given(UNITS)
def test_the_interval_holds_between_the_extremes_and_does_not_depend_on_the_names(units):
    values, clusters = [v for v, _ in units], [c for _, c in units]
    interval = mean_interval(values, clusters)
    if len(set(clusters)) < 2:
        assert interval is None
        return
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
    assert interval == mean_interval(values, [c.upper() for c in clusters])


def test_the_interval_is_that_of_a_loop_over_clusters():
    """With numpy's same draws, each resample's mean built unit by unit; 1e-12 for the order of sums."""
    values, clusters = [1.0, 0.0, 1.0, 1.0, 0.0], ["a", "a", "b", "c", "c"]
    drawn = np.random.default_rng(3).multinomial(3, np.full(3, 1 / 3), size=2000)
    means = []
    for counts in drawn:
        units = [v for v, c in zip(values, clusters, strict=True) for _ in range(counts["abc".index(c)])]
        means.append(fmean(units))
    low, high = np.quantile(means, [0.025, 0.975])
    assert mean_interval(values, clusters) == pytest.approx((low, high), abs=1e-12)


def test_many_independent_units_give_the_normal_interval():
    """400 units, half of them right: 1.96 * 0.5 / 20 = 0.049 to each side; 2000 resamples leave about 5 % of it."""
    values = [float(i % 2) for i in range(400)]
    interval = mean_interval(values, [str(i) for i in range(400)])
    half = 1.96 * 0.5 / math.sqrt(400)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.1)


def linearized_half_width(values, clusters):
    """1.96 standard errors of a mean by clusters (Liang & Zeger 1986, times k / (k - 1)): without resampling."""
    mean, residuals = fmean(values), {}
    for value, cluster in zip(values, clusters, strict=True):
        residuals[cluster] = residuals.get(cluster, 0.0) + value - mean
    count = len(residuals)
    variance = count / (count - 1) * sum(each**2 for each in residuals.values()) / len(values) ** 2
    return 1.96 * math.sqrt(variance)


def test_intervals_of_many_unequal_clusters_are_those_of_the_linearized_mean():
    """300 videos with 1 to 8 questions, each video hard or easy; the resamples leave about 5 % of a width."""
    random = np.random.default_rng(0)
    chances = [(chance, f"v{video}") for video, chance in enumerate(random.random(300))]
    asked = [each for each in chances for _ in range(random.integers(1, 9))]
    clusters = [cluster for _, cluster in asked]
    first, second = ([float(random.random() < chance) for chance, _ in asked] for _ in range(2))
    alone, paired = mean_interval(first, clusters), difference_interval(first, second, clusters)
    assert (alone.high - alone.low) / 2 == pytest.approx(linearized_half_width(first, clusters), rel=0.1)
    changes = [a - b for a, b in zip(first, second, strict=True)]
    assert (paired.high - paired.low) / 2 == pytest.approx(linearized_half_width(changes, clusters), rel=0.1)
    independent = linearized_half_width(first, [str(i) for i in range(len(first))])
    assert alone.high - alone.low > 2.5 * independent, "questions about one video are not independent"


def test_what_is_the_same_in_both_runs_adds_nothing_to_the_interval_of_their_difference():
    values = [float(i % 3 == 0) for i in range(60)]
    clusters = [str(i // 2) for i in range(60)]
    better = [v + 0.25 for v in values]
    assert difference_interval(better, values, clusters) == pytest.approx((0.25, 0.25))


def test_twice_the_same_questions_about_one_video_say_no_more():
    values, clusters = [float(i % 2) for i in range(50)], [str(i) for i in range(50)]
    assert mean_interval(values * 2, clusters * 2) == pytest.approx(mean_interval(values, clusters))
