"""Advice: the cheapest method that meets the constraints and is as good as the best."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from bench.analysis import break_even, comparison, learning_curve, power
from bench.analysis.comparison import Comparison, MethodResult
from bench.analysis.constraints import Constraints, exceeded_limits, failure_reasons
from bench.analysis.learning_curve import LearningCurve
from bench.analysis.significance import SIGNIFICANCE_LEVEL
from bench.analysis.summary import MethodSummary
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate, untranslated
from bench.records import comparability

Standing = Literal["as good", "inconclusive", "worse"]
Answer = Literal["recommend", "inconclusive", "nothing"]


class Candidate(BaseModel):
    """A method that meets the constraints, compared with the best of them."""

    name: str
    control: bool
    score: float
    """Mean of the main metric."""
    low: float
    """Lower bound of the 95 % interval of the score."""
    high: float
    """Upper bound of the 95 % interval of the score."""
    standing: Standing
    """A method is "as good" if its score is not below the best by more than the tolerance (non-inferiority)."""
    deficit: float
    """Score of the best method minus this score; 0 for the best."""
    questions_needed: int | None
    """Test questions that would settle an inconclusive standing; None if it is settled, or if no number would."""
    train_s: float | None
    """Seconds of training; None if not measured."""
    query_ms: float | None
    """Mean milliseconds per query; None if not measured."""
    total_s: float | None
    """Seconds of training and of all queries; None if not measured."""


class BreakEven(BaseModel):
    """Number of queries from which one method costs less than another."""

    cheaper_below: str
    """Method that costs less below the break-even."""
    cheaper_from: str
    """Method that costs less from the break-even on."""
    queries: int
    """The break-even; 0 if `cheaper_from` costs less from the first query on."""
    cheaper_below_score: float
    cheaper_from_score: float


class LabelingAdvice(BaseModel):
    """Expected gain of more labels, from the two largest training sizes."""

    verdict: str
    """Either "yes", "no" or "inconclusive"."""
    smaller_size: int
    """Second largest number of training examples."""
    larger_size: int
    """Largest number of training examples."""
    gain: float
    """Score gained per doubling of the labels."""
    low: float
    """Lower bound of the 95 % interval of the gain."""
    high: float
    """Upper bound of the 95 % interval of the gain."""


class Advice(BaseModel):
    """Recommended method for one task on one model, with the reasons."""

    task: str
    model: str
    metric: str
    answer: Answer
    """It is "inconclusive" if a cheaper candidate may be as good, "nothing" if no method meets the constraints."""
    recommended: str | None
    """The cheapest method that is as good as the best; None if no method meets the constraints."""
    cheaper_candidates: list[str]
    """Methods that cost less than the recommended one and may be as good."""
    best: str | None
    """Method with the highest score among the candidates; None if there are none."""
    candidates: list[Candidate]
    """Methods that meet the constraints, best first."""
    excluded: dict[str, str]
    """Reason for exclusion, by method."""
    excluded_by_limit: list[str]
    """Methods that would be candidates without the constraints."""
    has_contender: bool
    """True if any method other than controls was run."""
    break_even: BreakEven | None
    """Break-even of the recommended method with the best one of the other kind: prompted if it trains, and vice versa.

    None if there is no such method, if a cost was not measured, or if the machines differ.
    """
    one_machine: bool
    """True if all runs were made on equal machines; otherwise costs are not compared, and the best is recommended."""
    more_labels: LabelingAdvice | None
    """For the recommended method; None if only one training size was run."""


def advise(task_results: TaskResults, constraints: Constraints, translate: Translate = untranslated) -> Advice:
    """Recommend a method for one task and model.

    Args:
        task_results: Results of the task on the model.
        constraints: Limits, expected number of queries, and tolerance of the user.
        translate: Translates the reasons for exclusion.
    """
    summaries = task_results.summaries
    negative_controls = {
        summary.label: translate("negative control, not a candidate")
        for summary in summaries
        if summary.negative_control
    }
    failed = failure_reasons(summaries, translate)
    over_limit = exceeded_limits(summaries, constraints, translate)
    excluded = negative_controls | over_limit | failed
    eligible = [summary for summary in summaries if summary.status == "ok" and summary.label not in excluded]

    results = {result.key: result for result in task_results.comparison.results}
    best = results[eligible[0].key] if eligible else None
    candidates = [
        _candidate(summary, results[summary.key], best, task_results.comparison, constraints)
        for summary in eligible
        if best
    ]
    one_machine = comparability.same_machine(task_results.records)
    as_good = [candidate for candidate in candidates if candidate.standing == "as good"]
    recommended = min(as_good, key=_cost_order if one_machine else _score_order, default=None)
    cheaper = _cheaper_candidates(recommended, candidates) if recommended and one_machine else []
    summary = next((summary for summary in eligible if recommended and summary.label == recommended.name), None)
    curve = learning_curve.learning_curves(task_results).get(summary.key) if summary else None
    return Advice(
        task=task_results.task,
        model=task_results.records[0].spec.base.ref,
        metric=task_results.metric,
        answer="nothing" if recommended is None else "inconclusive" if cheaper else "recommend",
        recommended=recommended.name if recommended else None,
        cheaper_candidates=cheaper,
        best=best.name if best else None,
        candidates=candidates,
        excluded=excluded,
        has_contender=any(not summary.control for summary in summaries),
        excluded_by_limit=[name for name in over_limit if name not in negative_controls and name not in failed],
        break_even=_break_even(summary, eligible, task_results.metric) if summary and one_machine else None,
        one_machine=one_machine,
        more_labels=_labeling_advice(curve) if curve else None,
    )


def _candidate(
    summary: MethodSummary,
    result: MethodResult,
    best: MethodResult,
    task_comparison: Comparison,
    constraints: Constraints,
) -> Candidate:
    standing, deficit, questions_needed = _standing(result, best, task_comparison, constraints.tolerance)
    cost = break_even.cost_model(summary)
    return Candidate(
        name=summary.label,
        control=summary.control,
        score=result.interval.mean,
        low=result.interval.low,
        high=result.interval.high,
        standing=standing,
        deficit=deficit,
        questions_needed=questions_needed,
        train_s=cost.train_s if cost else None,
        query_ms=cost.query_s * 1000 if cost else None,
        total_s=cost.total_s(constraints.queries) if cost else None,
    )


def _standing(
    result: MethodResult, best: MethodResult, task_comparison: Comparison, tolerance: float
) -> tuple[Standing, float, int | None]:
    """Compare a method with the best, by its 90 % interval (one-sided tests, 5 % level).

    Returns:
        The standing, the deficit, and the test questions that would settle an inconclusive standing (None if it is
        settled, or if no number would).
    """
    if result.key == best.key:
        return "as good", 0.0, None
    contrast = task_comparison.against_leader.get(result.key)
    if contrast and contrast.reference_key == best.key:
        difference = contrast.difference
    else:
        difference = comparison.paired_difference_of(result, best, task_comparison.prior)
    deficit = -difference.ci95.mean
    if difference.ci90.low >= -tolerance:
        return "as good", deficit, None
    if difference.ci90.high < -tolerance:
        return "worse", deficit, None
    distance = abs(difference.ci95.mean + tolerance)
    return "inconclusive", deficit, power.questions_to_detect(difference, distance, SIGNIFICANCE_LEVEL)


def _cheaper_candidates(recommended: Candidate, candidates: list[Candidate]) -> list[str]:
    """Return the methods that cost less than the recommended one and may be as good."""
    return [
        candidate.name
        for candidate in candidates
        if _cost_order(candidate) < _cost_order(recommended) and candidate.standing == "inconclusive"
    ]


def _cost_order(candidate: Candidate) -> tuple[bool, float, float]:
    """Sort key: the cheapest first, unmeasured costs last, equal costs by score."""
    return candidate.total_s is None, candidate.total_s or 0.0, -candidate.score


def _score_order(candidate: Candidate) -> float:
    """Sort key: the highest score first."""
    return -candidate.score


def _break_even(chosen: MethodSummary, eligible: list[MethodSummary], metric: str) -> BreakEven | None:
    """Return the break-even of a method with the best one of the other kind, or None.

    A method that trains costs more before the first query, a prompted method costs more per query.
    """
    others = [
        summary for summary in eligible if bool(summary.trainable) is not bool(chosen.trainable) and not summary.control
    ]
    if not others:
        return None
    other = others[0]
    chosen_cost, other_cost = break_even.cost_model(chosen), break_even.cost_model(other)
    if chosen_cost is None or other_cost is None:
        return None
    queries = break_even.break_even_queries(chosen_cost, other_cost)
    if queries is None:  # One of the two costs less from the first query on.
        chosen_is_later = chosen_cost.total_s(1) < other_cost.total_s(1)
    else:
        chosen_is_later = chosen_cost.train_s >= other_cost.train_s
    below, later = (other, chosen) if chosen_is_later else (chosen, other)
    return BreakEven(
        cheaper_below=below.label,
        cheaper_from=later.label,
        queries=queries or 0,
        cheaper_below_score=below.scores[metric],
        cheaper_from_score=later.scores[metric],
    )


def _labeling_advice(curve: LearningCurve) -> LabelingAdvice:
    smaller_size, larger_size = curve.sizes[-2:]
    gain = curve.gain
    return LabelingAdvice(
        verdict=curve.verdict,
        smaller_size=smaller_size,
        larger_size=larger_size,
        gain=gain.mean,
        low=gain.low,
        high=gain.high,
    )
