"""What can be said from scores: no torch, no files, no opinion."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, log

from bench.records.record import SearchRange

EDGE = 0.05


def expected_best(scores: Sequence[float]) -> list[float]:
    """The score that the best of k trials has on average, for k = 1 to all of them.

    Unbiased over the subsets of the trials: sum of x(i) C(i - 1, k - 1) / C(n, k), x(i) the i-th smallest
    (https://arxiv.org/abs/1909.03004).
    """
    ordered, n = sorted(scores), len(scores)
    return [
        sum(score * comb(place, k - 1) for place, score in enumerate(ordered)) / comb(n, k) for k in range(1, n + 1)
    ]


def is_at_edge(value: float, place: SearchRange) -> bool:
    """Whether a value stands within a twentieth of its range from either end, by factors where it was drawn so."""
    if place.low is None or place.high is None or place.low == place.high:
        return False
    if place.integer and value in (place.low, place.high):
        return True
    low, high, here = (log(x) if place.log else x for x in (place.low, place.high, value))
    return not EDGE <= (here - low) / (high - low) <= 1 - EDGE
