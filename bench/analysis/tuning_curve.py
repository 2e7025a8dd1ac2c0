"""Summaries of hyper-parameter trials: best of k, and values at the edge of a range."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, log

from bench.records import SearchRange

EDGE_SHARE = 0.05
"""Share of a search range, at either end, that counts as its edge."""


def expected_best(scores: Sequence[float]) -> list[float]:
    """Return the expected score of the best of k trials, for k from 1 to the number of trials.

    The estimate is the mean of the maximum over all subsets of k trials:
    sum of x(i) · C(i - 1, k - 1) / C(n, k), with x(i) the i-th smallest score
    (https://arxiv.org/abs/1909.03004).
    """
    ascending, n = sorted(scores), len(scores)
    return [
        sum(score * comb(rank, k - 1) for rank, score in enumerate(ascending)) / comb(n, k) for k in range(1, n + 1)
    ]


def is_at_edge(value: object, search_range: SearchRange) -> bool:
    """Return True if a value is within 5 % of either end of its search range.

    The share is measured on the scale of the search: logarithmic for a logarithmic range. For integers, the bounds
    themselves always count. Choices, ranges of a single value, and values that are no number have no edge.
    """
    low, high = search_range.low, search_range.high
    if low is None or high is None or low == high or not isinstance(value, int | float):
        return False
    if search_range.integer and value in (low, high):
        return True
    if search_range.log:
        low, high, value = log(low), log(high), log(value)
    return not EDGE_SHARE <= (value - low) / (high - low) <= 1 - EDGE_SHARE
