"""Advice: the cheapest method that is useful, as good as the best, and above controls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

from bench.analysis import break_even, comparison, diagnosis, learning_curve, power
from bench.analysis.comparison import Comparison, MethodResult
from bench.analysis.constraints import Constraints, exceeded_limits, failure_reasons
from bench.analysis.diagnosis import Finding
from bench.analysis.learning_curve import LearningCurve
from bench.analysis.statistic import SIGNIFICANCE_LEVEL
from bench.analysis.summary import MethodSummary
from bench.analysis.task_results import TaskResults
from bench.i18n import Translate, untranslated
from bench.records import comparability

Standing = Literal["as good", "inconclusive", "worse"]
Answer = Literal["recommend", "inconclusive", "not useful", "nothing"]
Doubt = Literal["only controls", "not better than control", "cheaper method", "better method", "still learning"]


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
    questions_to_beat_control: int | None
    """Test questions that would settle an inconclusive difference from the best control; None as above."""
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
    """It is "recommend" only for a method that is useful in itself and shown to be better than the controls, or for a
    control that no method is better than. "not useful": the best score is below `useful_score`; "nothing": no method
    meets the constraints."""
    doubt: Doubt | None
    """Reason for "inconclusive"; None for every other answer."""
    recommended: str | None
    """The cheapest method that is as good as the best, as far as that is known.

    None if no method is useful or meets the constraints."""
    rivals: list[str]
    """Methods that leave the answer inconclusive: they may be as good and cost less, or they may be better."""
    useful_score: float
    """Lowest score with which a method is recommended."""
    one_seed: bool
    """True if the answer rests on one seed of a method that depends on the seed, so it is preliminary."""
    is_smoke_test: bool
    """True if methods other than controls were run with the budget of a smoke test, so the answer is preliminary."""
    findings: list[Finding]
    """Why the answer is preliminary, or the likeliest reasons why no method is useful."""
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

    @property
    def is_preliminary(self) -> bool:
        """True if more seeds or a longer budget may change the answer."""
        return self.one_seed or self.is_smoke_test


def advise(task_results: TaskResults, constraints: Constraints, translate: Translate = untranslated) -> Advice:
    """Recommend a method for one task and model.

    Args:
        task_results: Results of the task on the model.
        constraints: Limits, expected number of queries, and tolerance of the user.
        translate: Translates the reasons for exclusion.
    """
    summaries = task_results.summaries
    not_candidate = translate("negative control, not a candidate")
    negative_controls = {summary.label: not_candidate for summary in summaries if summary.negative_control}
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
    contenders = {summary.label for summary in summaries if not summary.control}
    compared = {*over_limit, *(candidate.name for candidate in candidates)}
    decision = _decide(
        candidates, task_results, constraints, compares_contender=bool(contenders & compared), one_machine=one_machine
    )
    recommended = decision.recommended
    summary = next((summary for summary in eligible if recommended and summary.label == recommended.name), None)
    curve = learning_curve.learning_curves(task_results).get(summary.key) if summary else None
    return Advice(
        task=task_results.task,
        model=task_results.records[0].spec.base.ref,
        metric=task_results.metric,
        answer=decision.answer,
        doubt=decision.doubt,
        recommended=recommended.name if recommended else None,
        rivals=decision.rivals,
        useful_score=constraints.useful_score(task_results.metric, task_results.chance),
        one_seed=bool(diagnosis.one_seed(task_results)),
        is_smoke_test=bool(contenders and diagnosis.short_budget(task_results.records)),
        findings=_findings(decision.answer, task_results, eligible, summary),
        best=best.name if best else None,
        candidates=candidates,
        excluded=excluded,
        has_contender=bool(contenders),
        excluded_by_limit=[name for name in over_limit if name not in negative_controls and name not in failed],
        break_even=_break_even(summary, eligible, task_results.metric) if summary and one_machine else None,
        one_machine=one_machine,
        more_labels=_labeling_advice(curve) if curve else None,
    )


@dataclass(frozen=True)
class _Decision:
    """The answer of the advice, and the candidate that it names."""

    answer: Answer
    recommended: Candidate | None = None
    doubt: Doubt | None = None
    rivals: list[str] = field(default_factory=list)


def _decide(
    candidates: list[Candidate],
    task_results: TaskResults,
    constraints: Constraints,
    *,
    compares_contender: bool,
    one_machine: bool,
) -> _Decision:
    """Choose a candidate, and say how certain the choice is.

    Args:
        candidates: Methods that meet the constraints, best first.
        task_results: Results of the task on the model.
        constraints: Tolerance and lowest useful score.
        compares_contender: True if a method that is no control is a candidate, or would be one without the limits.
        one_machine: True if costs compare.
    """
    chosen = _choose(candidates, task_results.comparison, one_machine=one_machine)
    if chosen is None:
        return _Decision("nothing")
    if not compares_contender:
        return _Decision("inconclusive", chosen, "only controls")
    if candidates[0].score < constraints.useful_score(task_results.metric, task_results.chance):
        return _Decision("not useful")
    doubt, rivals = _doubt(chosen, candidates, task_results, constraints.tolerance, one_machine=one_machine)
    return _Decision("inconclusive" if doubt else "recommend", chosen, doubt, rivals)


def _findings(
    answer: Answer, task_results: TaskResults, eligible: list[MethodSummary], recommended: MethodSummary | None
) -> list[Finding]:
    """Return why no method is useful, or why the answer is preliminary."""
    if answer == "nothing":
        return []
    if answer == "not useful":
        return diagnosis.low_score_findings(task_results, eligible)
    return diagnosis.preliminary_findings(task_results, recommended)


def _choose(candidates: list[Candidate], task_comparison: Comparison, *, one_machine: bool) -> Candidate | None:
    """Return the cheapest candidate that is as good as the best, preferably a proven one.

    A control is proven, and so is a method that is shown to be better than the best control. If the runs were made on
    different machines, costs do not compare and the highest score decides.
    """
    as_good = [candidate for candidate in candidates if candidate.standing == "as good"]
    proven = [candidate for candidate in as_good if candidate.control or _beats_control(candidate, task_comparison)]
    return min(proven or as_good, key=_cost_order if one_machine else _score_order, default=None)


def _beats_control(candidate: Candidate, task_comparison: Comparison) -> bool:
    """Tell if a method is shown to be better than the best control; true without a control."""
    if task_comparison.control is None:
        return True
    contrast = task_comparison.against_control.get(_result(candidate, task_comparison).key)
    return contrast is not None and contrast.verdict == "better"


def _result(candidate: Candidate, task_comparison: Comparison) -> MethodResult:
    return next(result for result in task_comparison.results if result.name == candidate.name)


def _doubt(
    chosen: Candidate, candidates: list[Candidate], task_results: TaskResults, tolerance: float, *, one_machine: bool
) -> tuple[Doubt | None, list[str]]:
    """Return why the choice is not certain, and the methods that cause the doubt."""
    if not chosen.control and not _beats_control(chosen, task_results.comparison):
        control = task_results.comparison.control
        return "not better than control", [control.name] if control else []
    if one_machine and (cheaper := _cheaper_candidates(chosen, candidates)):
        return "cheaper method", cheaper
    if not chosen.control:
        return None, []
    if better := [
        candidate.name
        for candidate in candidates
        if not candidate.control and _may_be_better(candidate, chosen, task_results.comparison, tolerance)
    ]:
        return "better method", better
    learning = diagnosis.still_learning(task_results)
    return ("still learning", learning[0].methods) if learning else (None, [])


def _may_be_better(candidate: Candidate, control: Candidate, task_comparison: Comparison, tolerance: float) -> bool:
    """Tell if a method may be better than a control by more than the tolerance."""
    difference = comparison.paired_difference_of(
        _result(candidate, task_comparison), _result(control, task_comparison), task_comparison.prior
    )
    return difference.ci90.high > tolerance


def _candidate(
    summary: MethodSummary,
    result: MethodResult,
    best: MethodResult,
    task_comparison: Comparison,
    constraints: Constraints,
) -> Candidate:
    standing, deficit, questions_needed = _standing(result, best, task_comparison, constraints.tolerance)
    cost = break_even.cost_model(summary)
    against_control = task_comparison.against_control.get(result.key)
    return Candidate(
        name=summary.label,
        control=summary.control,
        score=result.interval.mean,
        low=result.interval.low,
        high=result.interval.high,
        standing=standing,
        deficit=deficit,
        questions_needed=questions_needed,
        questions_to_beat_control=against_control.questions_needed if against_control else None,
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
