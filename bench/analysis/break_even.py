"""What answering so many questions costs in all: adapting once, and each answer."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from bench.analysis.summary import Row


@dataclass(frozen=True)
class Price:
    """Seconds on the machine of the record; tuning trials are not in it."""

    once: float
    each: float

    def total(self, queries: float) -> float:
        """Seconds of adapting and of that many answers, asked one at a time."""
        return self.once + queries * self.each


def price(row: Row) -> Price | None:
    """What a method costs here; None where fitting or answering was not measured."""
    if row.status != "ok" or row.fit_s is None or row.query_mean_ms is None:
        return None
    return Price(row.fit_s, row.query_mean_ms / 1000)


def crossing(ours: Price, theirs: Price) -> int | None:
    """The fewest questions from which the one dearer beforehand costs no more; None where it never does, or none is."""
    if (ours.once - theirs.once) * (ours.each - theirs.each) >= 0:
        return None
    return ceil(round((ours.once - theirs.once) / (theirs.each - ours.each), 6))
