"""Diagnosis from records: why scores may be low, and why a result is only preliminary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import sqrt
from typing import Literal

import numpy
from pydantic import BaseModel

from bench import registry
from bench.analysis import known_spread
from bench.analysis.summary import MethodSummary
from bench.analysis.task_results import TaskResults
from bench.records import Record, Samples
from bench.records.samples import answer_metric

MAX_BACKGROUND_SHARE = 0.2
"""Share of the cores that other processes may use before the times of a run are called unreliable."""
SHORT_EXAMPLES = 200
"""A budget of one epoch over at most this number of examples is a smoke test (`quick`, `ci`)."""
MIN_LOSS_FALL = 0.1
"""A method is still learning if its validation loss fell by this share over the second half of its training."""
MIN_CUT_SHARE = 0.2
"""Share of answers cut at the token limit, or repeating a phrase, from which it is named as a reason."""
MIN_METRIC_GAP = 0.2
"""F1 minus exact match from which exact match is called too strict."""
MIN_DISPUTED_SHARE = 0.05
"""Share of the questions on which different methods agree on another answer than the reference."""
DISPUTING_METHODS = 3
"""Number of the best methods that have to agree on it."""
MIN_CONSTANT_ANSWER_SCORE = 0.3
"""Score of the same answer to every question from which a metric other than exact match is called lenient."""
MAX_REASONS = 3

FindingKind = Literal[
    "one seed",
    "short budget",
    "demo model",
    "busy machine",
    "answers cut",
    "answers repeat",
    "strict metric",
    "lenient metric",
    "still learning",
    "disputed labels",
]


class Finding(BaseModel):
    """One finding about the results of a task."""

    kind: FindingKind
    methods: list[str] = []
    """Labels of the methods that it concerns; empty if it concerns all."""
    facts: dict[str, int | float | str] = {}
    """Values that its sentence shows."""


def preliminary_findings(task_results: TaskResults, recommended: MethodSummary | None) -> list[Finding]:
    """Return why the advice on a task is only preliminary, the weightiest first.

    Args:
        task_results: Results of the task on the model.
        recommended: The method that the advice names; None if it names none.
    """
    records = task_results.records
    findings = [*one_seed(task_results), *short_budget(records), *_demo_model(records)]
    if recommended is not None:
        findings += [*_unfinished_answers(recommended), *_strict_metric(recommended, task_results.metric)]
    findings += _lenient_metric(task_results)
    return findings + _busy_machine(records)


def low_score_findings(task_results: TaskResults, summaries: Sequence[MethodSummary]) -> list[Finding]:
    """Return the likeliest reasons why no method scores well, at most three, likeliest first.

    Args:
        task_results: Results of the task on the model.
        summaries: Successful methods, best first.
    """
    contenders = [summary for summary in summaries if not summary.control]
    if not contenders:
        return []
    findings = [
        *_unfinished_answers(contenders[0]),
        *_strict_metric(contenders[0], task_results.metric),
        *(still_learning(task_results) or short_budget(task_results.records)),
        *_disputed_labels(task_results),
        *_demo_model(task_results.records),
    ]
    return findings[:MAX_REASONS]


def one_seed(task_results: TaskResults) -> list[Finding]:
    """Return a finding if the results rest on one seed, or none.

    They do if a method that depends on the seed has one, and is not shown to be worse than the leader or the best
    control.
    """
    comparison = task_results.comparison
    spreads = {}
    for result in comparison.results:
        contrasts = (comparison.against_leader.get(result.key), comparison.against_control.get(result.key))
        kind = known_spread.kind_of(result.records[0])
        is_worse = any(contrast is not None and contrast.verdict == "worse" for contrast in contrasts)
        if kind is not None and len(result.seeds) == 1 and not result.control and not is_worse:
            spreads[result.name] = known_spread.MEASURED[kind], sqrt(result.known.variance)
    if not spreads:
        return []
    measured, std = max(spreads.values(), key=lambda spread: spread[1])
    return [Finding(kind="one seed", methods=list(spreads), facts={"points": 100 * std, "runs": measured.n_runs})]


def still_learning(task_results: TaskResults) -> list[Finding]:
    """Return one finding on the methods whose validation loss was still falling, or none."""
    falls: dict[str, list[float]] = {}
    labels = {summary.key: summary.label for summary in task_results.summaries if not summary.control}
    for record in task_results.records:
        fall = loss_fall(record)
        if fall is not None and record.spec.key in labels:
            falls.setdefault(labels[record.spec.key], []).append(fall)
    means = {label: sum(values) / len(values) for label, values in falls.items()}
    learning = {label: fall for label, fall in means.items() if fall >= MIN_LOSS_FALL}
    if not learning:
        return []
    return [Finding(kind="still learning", methods=list(learning), facts={"fall": max(learning.values())})]


def loss_fall(record: Record) -> float | None:
    """Return the share by which the validation loss fell over the second half of training.

    None if the training curve has fewer than three points with a loss. The learning rate falls to zero in that half,
    so a run that still gains there would gain from more steps.
    """
    points = [(point.step, point.validation_loss) for point in record.curve if point.validation_loss is not None]
    if len(points) < 3:
        return None
    steps, losses = zip(*points, strict=True)
    middle = float(numpy.interp(steps[-1] / 2, steps, losses))
    return 1 - losses[-1] / middle if middle > 0 else None


def busy_share(record: Record) -> float:
    """Return the share of the cores that other processes used during a run; 0 if not measured."""
    return record.env.background_cores / record.env.cores if record.env else 0.0


def short_budget(records: Sequence[Record]) -> list[Finding]:
    """Return a finding if the budget of the runs is that of a smoke test, or none."""
    budget = records[0].spec.budget
    if budget.epochs != 1 or budget.examples is None or budget.examples > SHORT_EXAMPLES:
        return []
    return [Finding(kind="short budget", facts={"examples": budget.examples})]


def _demo_model(records: Sequence[Record]) -> list[Finding]:
    ref = records[0].spec.base.ref
    if not registry.is_shipped_model(ref):
        return []
    totals = [record.cost.parameters.total for record in records if record.cost and record.cost.parameters]
    return [Finding(kind="demo model", facts={"model": ref, "parameters": max(totals, default=0)})]


def _busy_machine(records: Sequence[Record]) -> list[Finding]:
    share = max(map(busy_share, records))
    return [Finding(kind="busy machine", facts={"share": min(share, 1.0)})] if share > MAX_BACKGROUND_SHARE else []


def _unfinished_answers(summary: MethodSummary) -> list[Finding]:
    """Return a finding if many answers repeat themselves, or else if many were cut."""
    repeating_share, cut_share = summary.repeating_share or 0.0, summary.cut_share or 0.0
    if repeating_share >= MIN_CUT_SHARE:
        return [Finding(kind="answers repeat", methods=[summary.label], facts={"share": repeating_share})]
    if cut_share >= MIN_CUT_SHARE:
        return [Finding(kind="answers cut", methods=[summary.label], facts={"share": cut_share})]
    return []


def _strict_metric(summary: MethodSummary, metric: str) -> list[Finding]:
    score, f1 = summary.scores.get(metric), summary.scores.get("f1")
    if metric != "em" or score is None or f1 is None or f1 - score < MIN_METRIC_GAP:
        return []
    return [Finding(kind="strict metric", methods=[summary.label], facts={"em": score, "f1": f1})]


def _lenient_metric(task_results: TaskResults) -> list[Finding]:
    """Return a finding if one answer to every question scores high, but is rarely right."""
    metric = task_results.metric
    for result in task_results.comparison.results:
        samples = result.records[0].samples
        scores = result.records[0].scores
        is_constant = result.control and len({sample.answer for sample in samples}) == 1
        if (
            is_constant
            and metric != "em"
            and metric in scores
            and scores[metric] - scores.get("em", 0.0) >= MIN_CONSTANT_ANSWER_SCORE
        ):
            return [
                Finding(kind="lenient metric", methods=[result.name], facts={"score": scores[metric], "metric": metric})
            ]
    return []


def _disputed_labels(task_results: TaskResults) -> list[Finding]:
    """Return a finding if the best methods often agree on another answer than the reference.

    Methods that give all questions the same answer agree on it for no reason in the question, so they are left out.
    """
    best = [result.records[0].samples for result in task_results.comparison.results]
    varied = [samples for samples in best if len({sample.answer for sample in samples}) > 1][:DISPUTING_METHODS]
    if len(varied) < DISPUTING_METHODS:
        return []
    disputed = list(_agreed_wrong_answers(varied, task_results.metric))
    total = len(varied[0])
    # One answer that all of them prefer is a bias, and no sign of a wrong label.
    most_frequent = max(Counter(disputed).values(), default=0)
    if len(disputed) < MIN_DISPUTED_SHARE * total or most_frequent > len(disputed) / 2:
        return []
    return [Finding(kind="disputed labels", facts={"questions": len(disputed), "total": total, "methods": len(varied)})]


def _agreed_wrong_answers(method_samples: Sequence[Samples], metric: str) -> Iterator[str]:
    """Yield the answer to each question that all methods answer alike, and wrong."""
    answers = [{sample.id: sample for sample in samples} for samples in method_samples]
    for question_id, sample in answers[0].items():
        given = {other[question_id].answer for other in answers if question_id in other}
        if len(given) == 1 and sample.answer and not sample.scores[answer_metric(metric, sample.scores)]:
            yield sample.answer
