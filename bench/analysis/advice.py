"""Which method to use: of those within the limits and shown to be as good as the best, the one that costs least."""

from __future__ import annotations

from dataclasses import astuple
from typing import Literal

from pydantic import BaseModel

from bench.analysis import break_even, comparison, learning_curve, significance
from bench.analysis.comparison import Cell, Comparison
from bench.analysis.constraints import Wishes, exceeding, failed
from bench.analysis.learning_curve import Curve
from bench.analysis.significance import LEVEL
from bench.analysis.summary import Row
from bench.analysis.task_results import Section
from bench.i18n import Say, english
from bench.records import comparability

Standing = Literal["as good", "open", "worse"]
Answer = Literal["use", "undecided", "nothing"]


class Candidate(BaseModel):
    """A method within the limits, against the best of them."""

    name: str
    control: bool
    score: float
    low: float
    high: float
    standing: Standing
    behind: float
    """How much lower than the best it scored."""
    items: int | None
    """Where its standing is open: test questions that would tell; None: no number would, or it is not open."""
    once_s: float | None
    each_ms: float | None
    total_s: float | None


class BreakEven(BaseModel):
    """From how many questions on one method is cheaper than another."""

    first: str
    later: str
    at: int
    first_score: float
    later_score: float


class Labels(BaseModel):
    """Whether more labels would help, by what a doubling of them brought between two training sizes."""

    verdict: str
    """"yes", "no" or "open"."""
    less: int
    more: int
    gain: float
    low: float
    high: float


class Advice(BaseModel):
    """What to use for one task on one model, and why."""

    task: str
    model: str
    metric: str
    answer: Answer
    use: str | None
    """The cheapest method that is as good as the best; where undecided, what to use meanwhile."""
    instead: list[str]
    """Cheaper ones that may be as good."""
    best: str | None
    candidates: list[Candidate]
    out: dict[str, str]
    """Method → reason."""
    beyond: list[str]
    """Those of `out` that only a limit excludes."""
    contended: bool
    """Whether anything but controls was run."""
    break_even: BreakEven | None
    """Against the best method that is adapted the other way: by prompting, or by training."""
    one_machine: bool
    """Whether the runs were made on machines alike; if not, no cost was compared, and the best is chosen."""
    more_labels: Labels | None
    """Of the method to use; None: only one training size was measured."""


def decide(section: Section, wishes: Wishes, say: Say = english) -> Advice:
    """The advice for one section."""
    broken, beyond = failed(section.rows, say), exceeding(section.rows, wishes, say)
    shams = {row.label: say("shows what learning nothing looks like") for row in section.rows if row.sham}
    out = shams | beyond | broken
    cells = {cell.key: cell for cell in section.found.cells}
    fits = [row for row in section.rows if row.status == "ok" and row.label not in out]
    best = cells[fits[0].key] if fits else None
    candidates = [_candidate(row, cells[row.key], best, section.found, wishes) for row in fits if best]
    good = [one for one in candidates if one.standing == "as good"]
    alike = comparability.one_machine(section.records)
    use = min(good, key=_dearness if alike else _rank, default=None)
    cheaper = [one for one in candidates if alike and use and _dearness(one) < _dearness(use)]
    instead = [one for one in cheaper if one.standing == "open"]
    chosen = next((row for row in fits if use and row.label == use.name), None)
    curve = learning_curve.curves(section).get(chosen.key) if chosen else None
    return Advice(
        task=section.task,
        model=section.records[0].spec.base.ref,
        metric=section.metric,
        answer="nothing" if use is None else "undecided" if instead else "use",
        use=use.name if use else None,
        instead=[one.name for one in instead],
        best=best.name if best else None,
        candidates=candidates,
        out=out,
        contended=any(not row.control for row in section.rows),
        beyond=[name for name in beyond if name not in shams and name not in broken],
        break_even=_break_even(chosen, fits, section.metric) if chosen and alike else None,
        one_machine=alike,
        more_labels=_labels(curve) if curve else None,
    )


def _labels(curve: Curve) -> Labels:
    less, more = curve.sizes[-2:]
    mean, low, high = astuple(curve.gain)
    return Labels(verdict=curve.verdict, less=less, more=more, gain=mean, low=low, high=high)


def _candidate(row: Row, cell: Cell, best: Cell, found: Comparison, wishes: Wishes) -> Candidate:
    standing, items, behind = _standing(cell, best, found, wishes.tolerance)
    cost = break_even.price(row)
    return Candidate(
        name=row.label,
        control=row.control,
        score=cell.interval.mean,
        low=cell.interval.low,
        high=cell.interval.high,
        standing=standing,
        behind=behind,
        items=items,
        once_s=cost.once if cost else None,
        each_ms=cost.each * 1000 if cost else None,
        total_s=cost.total(wishes.queries) if cost else None,
    )


def _standing(cell: Cell, best: Cell, found: Comparison, tolerance: float) -> tuple[Standing, int | None, float]:
    """How a method stands to the best, by the bounds of 90 of 100 (one-sided tests at the 5 % level)."""
    if cell.key == best.key:
        return "as good", None, 0.0
    known = found.against_leader.get(cell.key)
    gap = known.difference if known and known.theirs == best.key else comparison.between(cell, best, found.prior)
    if gap.narrow.low >= -tolerance:
        return "as good", None, -gap.interval.mean
    if gap.narrow.high < -tolerance:
        return "worse", None, -gap.interval.mean
    items = significance.items_to_see(gap, abs(gap.interval.mean + tolerance), LEVEL)
    return "open", items, -gap.interval.mean


def _dearness(one: Candidate) -> tuple[bool, float, float]:
    """Cheapest first; what was not measured last; of equals the better first."""
    return one.total_s is None, one.total_s or 0.0, -one.score


def _rank(one: Candidate) -> float:
    """Best first."""
    return -one.score


def _break_even(chosen: Row, fits: list[Row], metric: str) -> BreakEven | None:
    """Where the cost of the chosen method meets that of the best one which is adapted the other way.

    A method that trains nothing is paid for by the answer, one that trains beforehand.
    """
    others = [row for row in fits if bool(row.trainable) is not bool(chosen.trainable) and not row.control]
    ours, theirs = break_even.price(chosen), break_even.price(others[0]) if others else None
    if not others or ours is None or theirs is None:
        return None
    at = break_even.crossing(ours, theirs)
    first, later = (chosen, others[0]) if ours.once < theirs.once else (others[0], chosen)
    if at is None:  # the cheaper one is so from the first question on
        first, later = (others[0], chosen) if ours.total(1) < theirs.total(1) else (chosen, others[0])
    scores = {"first_score": first.scores[metric], "later_score": later.scores[metric]}
    return BreakEven(first=first.label, later=later.label, at=at or 0, **scores)
