"""Best of k trials, and values at the edge of a search range."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

import pytest

from bench.analysis import tuning_curve
from bench.records import SearchRange


@pytest.mark.parametrize("scores", [[0.5], [0.1, 0.9, 0.4], [0.3, 0.3, 0.8, 0.2, 0.7]])
def test_expected_best_is_mean_maximum_over_all_subsets(scores: list[float]) -> None:
    expected = [fmean(max(subset) for subset in combinations(scores, k)) for k in range(1, len(scores) + 1)]
    assert tuning_curve.expected_best(scores) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "search_range", "expected"),
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
def test_is_at_edge_within_five_percent_of_either_end(value: float, search_range: SearchRange, expected: bool) -> None:
    assert tuning_curve.is_at_edge(value, search_range) is expected
