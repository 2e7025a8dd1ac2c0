"""Which method to use: of those within the limits and shown to be as good as the best, the one that costs least."""

from __future__ import annotations

from dataclasses import astuple
from typing import Literal

from pydantic import BaseModel

from bench.analysis import break_even, comparison, learning_curve, power
from bench.analysis.comparison import Comparison, MethodResult
from bench.analysis.constraints import Constraints, describe_exceeding, describe_failed
from bench.analysis.learning_curve import LearningCurve
from bench.analysis.significance import SIGNIFICANCE_LEVEL
from bench.analysis.summary import MethodSummary
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate, untranslated
from bench.records import comparability

Standing = Literal["as good", "inconclusive", "worse"]
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
    questions_needed: int | None
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


class LabelingAdvice(BaseModel):
    """Whether more labels would help, by what a doubling of them brought between two training sizes."""

    verdict: str
    """"yes", "no" or "inconclusive"."""
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
    recommended: str | None
    """The cheapest method that is as good as the best; where undecided, what to use meanwhile."""
    cheaper_candidates: list[str]
    """Cheaper ones that may be as good."""
    best: str | None
    candidates: list[Candidate]
    excluded: dict[str, str]
    """Method → reason."""
    excluded_by_limit: list[str]
    """Those of `out` that only a limit excludes."""
    has_contender: bool
    """Whether anything but controls was run."""
    break_even: BreakEven | None
    """Against the best method that is adapted the other way: by prompting, or by training."""
    one_machine: bool
    """Whether the runs were made on machines alike; if not, no cost was compared, and the best is chosen."""
    more_labels: LabelingAdvice | None
    """Of the method to use; None: only one training size was measured."""


def advise(section: TaskResults, wishes: Constraints, translate: Translate = untranslated) -> Advice:
    """The advice for one section."""
    broken, beyond = describe_failed(section.rows, translate), describe_exceeding(section.rows, wishes, translate)
    shams = {
        row.label: translate("shows what learning nothing looks like") for row in section.rows if row.negative_control
    }
    out = shams | beyond | broken
    cells = {cell.key: cell for cell in section.comparison.results}
    fits = [row for row in section.rows if row.status == "ok" and row.label not in out]
    best = cells[fits[0].key] if fits else None
    candidates = [_candidate(row, cells[row.key], best, section.comparison, wishes) for row in fits if best]
    good = [one for one in candidates if one.standing == "as good"]
    alike = comparability.same_machine(section.records)
    use = min(good, key=_dearness if alike else _rank, default=None)
    cheaper = [one for one in candidates if alike and use and _dearness(one) < _dearness(use)]
    instead = [one for one in cheaper if one.standing == "inconclusive"]
    chosen = next((row for row in fits if use and row.label == use.name), None)
    curve = learning_curve.learning_curves(section).get(chosen.key) if chosen else None
    return Advice(
        task=section.task,
        model=section.records[0].spec.base.ref,
        metric=section.metric,
        answer="nothing" if use is None else "undecided" if instead else "use",
        recommended=use.name if use else None,
        cheaper_candidates=[one.name for one in instead],
        best=best.name if best else None,
        candidates=candidates,
        excluded=out,
        has_contender=any(not row.control for row in section.rows),
        excluded_by_limit=[name for name in beyond if name not in shams and name not in broken],
        break_even=_break_even(chosen, fits, section.metric) if chosen and alike else None,
        one_machine=alike,
        more_labels=_labels(curve) if curve else None,
    )


def _labels(curve: LearningCurve) -> LabelingAdvice:
    less, more = curve.sizes[-2:]
    mean, low, high = astuple(curve.gain)
    return LabelingAdvice(verdict=curve.verdict, less=less, more=more, gain=mean, low=low, high=high)


def _candidate(
    row: MethodSummary, cell: MethodResult, best: MethodResult, found: Comparison, wishes: Constraints
) -> Candidate:
    standing, items, behind = _standing(cell, best, found, wishes.tolerance)
    cost = break_even.cost_model(row)
    return Candidate(
        name=row.label,
        control=row.control,
        score=cell.interval.mean,
        low=cell.interval.low,
        high=cell.interval.high,
        standing=standing,
        behind=behind,
        questions_needed=items,
        once_s=cost.once_s if cost else None,
        each_ms=cost.each_s * 1000 if cost else None,
        total_s=cost.total(wishes.queries) if cost else None,
    )


def _standing(
    cell: MethodResult, best: MethodResult, found: Comparison, tolerance: float
) -> tuple[Standing, int | None, float]:
    """How a method stands to the best, by the bounds of 90 of 100 (one-sided tests at the 5 % level)."""
    if cell.key == best.key:
        return "as good", None, 0.0
    known = found.against_leader.get(cell.key)
    gap = (
        known.difference if known and known.theirs == best.key else comparison.contrast_between(cell, best, found.prior)
    )
    if gap.ci90.low >= -tolerance:
        return "as good", None, -gap.interval.mean
    if gap.ci90.high < -tolerance:
        return "worse", None, -gap.interval.mean
    items = power.questions_to_detect(gap, abs(gap.interval.mean + tolerance), SIGNIFICANCE_LEVEL)
    return "inconclusive", items, -gap.interval.mean


def _dearness(one: Candidate) -> tuple[bool, float, float]:
    """Cheapest first; what was not measured last; of equals the better first."""
    return one.total_s is None, one.total_s or 0.0, -one.score


def _rank(one: Candidate) -> float:
    """Best first."""
    return -one.score


def _break_even(chosen: MethodSummary, fits: list[MethodSummary], metric: str) -> BreakEven | None:
    """Where the cost of the chosen method meets that of the best one which is adapted the other way.

    A method that trains nothing is paid for by the answer, one that trains beforehand.
    """
    others = [row for row in fits if bool(row.trainable) is not bool(chosen.trainable) and not row.control]
    ours, theirs = break_even.cost_model(chosen), break_even.cost_model(others[0]) if others else None
    if not others or ours is None or theirs is None:
        return None
    at = break_even.break_even_queries(ours, theirs)
    first, later = (chosen, others[0]) if ours.once_s < theirs.once_s else (others[0], chosen)
    if at is None:  # the cheaper one is so from the first question on
        first, later = (others[0], chosen) if ours.total(1) < theirs.total(1) else (chosen, others[0])
    scores = {"first_score": first.scores[metric], "later_score": later.scores[metric]}
    return BreakEven(first=first.label, later=later.label, at=at or 0, **scores)
