"""What answering so many questions costs in all: adapting once, and each answer."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from bench.analysis.summary import MethodSummary


@dataclass(frozen=True)
class CostModel:
    """Seconds on the machine of the record; tuning trials are not in it."""

    once_s: float
    each_s: float

    def total(self, queries: float) -> float:
        """Seconds of adapting and of that many answers, asked one at a time."""
        return self.once_s + queries * self.each_s


def cost_model(row: MethodSummary) -> CostModel | None:
    """What a method costs here; None where fitting or answering was not measured."""
    if row.status != "ok" or row.train_s is None or row.query_mean_ms is None:
        return None
    return CostModel(row.train_s, row.query_mean_ms / 1000)


def break_even_queries(ours: CostModel, theirs: CostModel) -> int | None:
    """The fewest questions from which the one dearer beforehand costs no more; None where it never does, or none is."""
    if (ours.once_s - theirs.once_s) * (ours.each_s - theirs.each_s) >= 0:
        return None
    return ceil(round((ours.once_s - theirs.once_s) / (theirs.each_s - ours.each_s), 6))
