from itertools import product

import pytest

from benchmarks.measuring import median_interval


def coverage(number, rank):
    """Share of all ways to lie above or below the true median in which that many values lie on either side at least."""
    ways = [sum(below) for below in product((0, 1), repeat=number)]
    return sum(rank < below < number - rank for below in ways) / len(ways)


@pytest.mark.parametrize("number", range(6, 15))
def test_an_interval_of_a_median_is_the_narrowest_that_holds_it_often_enough(number):
    values = [float((7 * i) % number) if number % 7 else float(number - 1 - i) for i in range(number)]
    assert sorted(values) == [float(i) for i in range(number)]
    low, high = median_interval(values, 0)
    assert high == number - 1 - low
    assert coverage(number, int(low)) >= 0.95 > coverage(number, int(low) + 1)


def test_five_values_hold_it_too_seldom():
    assert coverage(5, 0) < 0.95
    assert median_interval([1.0] * 5, 2) is None
    assert median_interval([1.0049] * 6, 2) == [1.0, 1.0]
