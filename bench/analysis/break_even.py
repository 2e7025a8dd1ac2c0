"""Total cost of training and queries, and the break-even between two methods."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from bench.analysis.summary import MethodSummary


@dataclass(frozen=True)
class CostModel:
    """Cost of a method in seconds on the machine of its records, without tuning trials."""

    train_s: float
    """Seconds of training, paid once."""
    query_s: float
    """Seconds per query, asked one at a time."""

    def total_s(self, queries: float) -> float:
        """Return the seconds of training and of a number of queries."""
        return self.train_s + queries * self.query_s


def cost_model(summary: MethodSummary) -> CostModel | None:
    """Return the cost of a method, or None if it failed or was not measured."""
    if summary.status != "ok" or summary.train_s is None or summary.query_mean_ms is None:
        return None
    return CostModel(summary.train_s, summary.query_mean_ms / 1000)


def break_even_queries(first: CostModel, second: CostModel) -> int | None:
    """Return the break-even between two methods.

    This is the number of queries from which the method with the higher training cost is not more expensive in total.

    Returns:
        A number of queries, or None if one method is not more expensive in both training and queries.
    """
    if (first.train_s - second.train_s) * (first.query_s - second.query_s) >= 0:
        return None
    return ceil(round((first.train_s - second.train_s) / (second.query_s - first.query_s), 6))
