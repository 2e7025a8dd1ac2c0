"""What is said from scores alone: the best of so many trials, the edge of a range, the smallest difference seen."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

import pytest
from scipy.stats import norm

from bench.analysis import power, tuning_curve
from bench.records.record import SearchRange


@pytest.mark.parametrize("scores", [[0.5], [0.1, 0.9, 0.4], [0.3, 0.3, 0.8, 0.2, 0.7]])
def test_the_expected_best_is_the_mean_over_all_subsets(scores: list[float]) -> None:
    brute = [fmean(max(some) for some in combinations(scores, k)) for k in range(1, len(scores) + 1)]
    assert tuning_curve.expected_best(scores) == pytest.approx(brute)


@pytest.mark.parametrize(
    ("value", "place", "edge"),
    [
        (1e-3, SearchRange(low=1e-3, high=1e-1, log=True), True),
        (1.1e-3, SearchRange(low=1e-3, high=1e-1, log=True), True),
        (1e-2, SearchRange(low=1e-3, high=1e-1, log=True), False),
        (0.096, SearchRange(low=0, high=0.1), True),
        (0.05, SearchRange(low=0, high=0.1), False),
        (8, SearchRange(low=1, high=8, integer=True), True),
        (2, SearchRange(low=1, high=8, integer=True), False),
        (1, SearchRange(low=1, high=8, integer=True), True),
        (0.1, SearchRange(low=0.1, high=0.1), False),
        (1e-3, SearchRange(choices=(1e-3, 1e-2)), False),
        (0.25, SearchRange(low=0, high=5), False),
        (0.249, SearchRange(low=0, high=5), True),
        (4.751, SearchRange(low=0, high=5), True),
    ],
)
def test_the_edge_of_a_range_is_seen(value: float, place: SearchRange, edge: bool) -> None:
    assert tuning_curve.is_at_edge(value, place) is edge


@pytest.mark.parametrize(("items", "discordance"), [(200, 0.1), (500, 0.1), (500, 0.25)])
def test_the_smallest_visible_difference_is_mcnemars(items: int, discordance: float) -> None:
    expected = (norm.ppf(0.975) + norm.ppf(0.8)) * (discordance / items) ** 0.5
    assert power.detectable_difference(items, discordance) == pytest.approx(expected, rel=1e-5)
    assert power.detectable_difference(500) == pytest.approx(0.0396, abs=5e-4)
